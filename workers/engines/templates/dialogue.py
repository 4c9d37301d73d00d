"""A chat's rules: how its answer is read, and what it is kept to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import Job
from protos.contract.tools import Tool, ToolChoice, Tooling
from workers.engines.templates.chat_template import ChatTemplate
from workers.engines.tool_calls.forced import STYLE, forced_form, forced_grammar, json_rule
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.output import Channels

EMPTY_SCHEMA = '{"type": "object", "properties": {}, "additionalProperties": false}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """Of one template. ``control``: its marks that are one control token, and the token; ``style``: how JSON is written
    where it must be, as the engine's llguidance takes it.
    """

    template: ChatTemplate
    control: Mapping[str, int]
    thinks_first: bool = True  # a grammar waits for thoughts to be over; else there are none where there is a grammar
    style: Mapping[str, object] = field(default_factory=lambda: STYLE)

    def channels(self, job: Job, prompt: str, form: Format | None = None) -> Channels | None:
        """What tells the answer's channels apart; None where it has one alone. ``prompt``: as it was rendered;
        ``form``: how calls are written, where it is not the template's way.
        """
        if not job.messages:
            return None
        opened = self.template.opens_thoughts(prompt)
        kept = job.grammar is not None or _forced(job.tooling)
        made = Channels(
            form=form or (forced_form(self.template.form) if _forced(job.tooling) else self.template.form),
            tooling=job.tooling,
            # who must keep to a grammar thinks first only where the prompt says so
            thoughts=self.template.thoughts if not kept or (opened and self.thinks_first) else None,
            opened=opened,
        )
        return made if made.needed else None

    def grammar(self, job: Job, schema_of: Callable[[str], str]) -> Grammar | None:
        """What the answer is kept to. ``schema_of``: a JSON schema as it is compiled; raises what it raises."""
        tooling = job.tooling
        if tooling is None or tooling.choice is ToolChoice.NONE:
            return job.grammar
        answer = self._answer(job.grammar, schema_of)
        if not tooling.forced and not answer:
            return job.grammar

        def parameters(tool: Tool) -> str:
            return schema_of(tool.parameters) if tool.parameters else EMPTY_SCHEMA

        form = forced_form(self.template.form)
        return forced_grammar(form, tooling, parameters, self.control, "" if tooling.forced else answer, self.style)

    def _answer(self, grammar: Grammar | None, schema_of: Callable[[str], str]) -> str:
        """An answer that may come instead of a call; empty where it is not asked for as JSON."""
        if grammar is None:
            return ""
        if grammar.kind is GrammarKind.JSON_SCHEMA:
            return json_rule(schema_of(grammar.text), self.style)
        return json_rule('{"type": "object"}', self.style) if grammar.kind is GrammarKind.JSON_OBJECT else ""


def dialogue_of(
    template: ChatTemplate | None,
    marks: Mapping[int, bytes],
    *,
    thinks_first: bool = True,
    style: Mapping[str, object] = STYLE,
) -> Dialogue | None:
    """None for a model that has no template. ``marks``: control tokens and the marks they are."""
    if template is None:
        return None
    control = {text.decode(): token for token, text in marks.items()}
    return Dialogue(template=template, control=control, thinks_first=thinks_first, style=style)


def _forced(tooling: Tooling | None) -> bool:
    return tooling is not None and bool(tooling.forced)
