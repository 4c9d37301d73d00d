"""A model's chat template: what it can is found out when it is read, and a chat is rendered within that."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from protos.contract.request import ChatMessage, Job
from protos.contract.stream import RefusalCode
from protos.contract.tools import Tool, ToolCall, ToolChoice
from protos.contract.worker import ModelInstance
from workers.engines.base import LoadError, Refused
from workers.engines.templates.environment import TEMPLATE_ERRORS, compiled
from workers.engines.templates.messages import Traits, joined, spoken
from workers.engines.tool_calls.formats import JSON, format_of, marks_of_thoughts
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.thoughts import ThoughtMarks

OURS = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
"""What a request's own arguments for the template cannot replace."""

_NEEDLE = "qzneedleq"
_OTHER = "qzotherq"


class ChatTemplate:
    """Renders chats. ``model`` is named in errors; ``tool_template``: another one for chats with tools."""

    def __init__(self, source: str, *, model: str, start: str = "", end: str = "", tool_template: str = "") -> None:
        """Raises LoadError for a template that is none."""
        self._model = model
        self._given = {"bos_token": start, "eos_token": end}
        self._plain = _Rendering(source, model, self._given)
        self._with_tools = _Rendering(tool_template, model, self._given) if tool_template else self._plain
        used = self._with_tools.traits
        self.form: Format = format_of(tool_template or source) if used.tools else JSON
        self.thoughts: ThoughtMarks | None = marks_of_thoughts(source)

    @property
    def traits(self) -> Traits:
        """What it renders."""
        return self._plain.traits

    @property
    def marks(self) -> tuple[str, ...]:
        """Everything that marks thoughts and calls."""
        form, thoughts = self.form, self.thoughts
        marks = (*form.starts, *form.ends, *form.skips, *form.parts)
        return marks if thoughts is None else (*marks, thoughts.open, thoughts.close)

    @property
    def output_format(self) -> str:
        """How thoughts and calls are marked in what the model writes."""
        return f"{self.form.name}{self.thoughts.open if self.thoughts else ''}"

    def render(self, job: Job) -> str:
        """The prompt's text. Raises Refused in one line when the template does not take these messages."""
        tooling = job.tooling
        tools = tooling.tools if tooling is not None and tooling.choice is not ToolChoice.NONE else ()
        rendering = self._with_tools if tools else self._plain
        arguments = _arguments(job.template_arguments)
        try:
            return rendering.render(job.messages, tools, arguments)
        except TEMPLATE_ERRORS as error:
            reason = f"the chat template of {self._model} does not take these messages: {_line(error)}"
            raise Refused(RefusalCode.INVALID, reason, parameter="messages") from error

    def opens_thoughts(self, prompt: str) -> bool:
        """Whether the prompt ends within thoughts."""
        return self.thoughts is not None and prompt.rstrip().endswith(self.thoughts.open)


class _Rendering:
    """One template and its traits."""

    def __init__(self, source: str, model: str, given: dict[str, Any]) -> None:
        self._given = given
        try:
            self._template = compiled(source)
        except TEMPLATE_ERRORS as error:
            raise LoadError(f"the chat template of {model} cannot be read: {_line(error)}; give it another") from error
        self.traits = self._find_out(Traits(short_ids="[TOOL_CALLS]" in source))

    def render(self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...], arguments: dict[str, Any]) -> str:
        """Raises one of TEMPLATE_ERRORS."""
        told, described = spoken(messages, tools, self.traits)
        try:
            return self._text(told, described, arguments)
        except TEMPLATE_ERRORS:
            fewer = joined(told)
            if len(fewer) == len(told):
                raise
            return self._text(fewer, described, arguments)

    def _text(self, messages: list[dict[str, Any]], tools: Any, arguments: dict[str, Any]) -> str:
        more = {**arguments, **self._given, **({"tools": tools} if tools else {})}
        return str(self._template.render(messages=messages, add_generation_prompt=True, **more))

    # -- what it can -----------------------------------------------------------------------------------------

    def _find_out(self, traits: Traits) -> Traits:
        ask = (ChatMessage(role="user", content=_NEEDLE),)
        if not self._says(traits, ask, needles=(_NEEDLE,)) and self._says(
            replace(traits, typed=True), ask, needles=(_NEEDLE,)
        ):
            traits = replace(traits, typed=True)
        system = (ChatMessage(role="system", content=_OTHER), *ask)
        traits = replace(traits, system=self._says(traits, system, needles=(_OTHER, _NEEDLE)))
        tool = Tool(name=_OTHER, description="d", parameters='{"type": "object", "properties": {}}')
        traits = replace(traits, tools=self._says(traits, ask, (tool,), needles=(_OTHER,)))
        made = ToolCall(id="a1b2c3d4e", name="look", arguments=json.dumps({_OTHER: 1}))
        history = (
            ChatMessage(role="user", content="question"),
            ChatMessage(role="assistant", tool_calls=(made,)),
            ChatMessage(role="tool", content=_NEEDLE, name="look", tool_call_id="a1b2c3d4e"),
        )
        for as_text in (False, True):
            tried = replace(traits, text_arguments=as_text)
            if self._says(tried, history, needles=(_NEEDLE, _OTHER)):
                return tried
        return replace(traits, calls=False)

    def _says(
        self,
        traits: Traits,
        messages: tuple[ChatMessage, ...],
        tools: tuple[Tool, ...] = (),
        *,
        needles: tuple[str, ...],
    ) -> bool:
        told, described = spoken(messages, tools, traits)
        try:
            text = self._text(told, described, {})
        except TEMPLATE_ERRORS:
            return False
        return all(one in text for one in needles)


def template_of(source: str, given: str, **more: Any) -> ChatTemplate | None:
    """The template of a model that comes with ``source``, or was ``given`` another: a file's path. None for a model
    without any. Raises LoadError.
    """
    if given:
        try:
            source = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"{given}: the chat template cannot be read ({error}); check chat_template") from None
        more.pop("tool_template", None)
    return ChatTemplate(source, **more) if source else None


def with_chat(facts: ModelInstance, template: ChatTemplate | None) -> ModelInstance:
    """What a model can do, by its template."""
    if template is None:
        return replace(facts, capabilities=replace(facts.capabilities, chat=False))
    able = replace(facts.capabilities, tools=True, reasoning=template.thoughts is not None or template.form.channels)
    return replace(facts, capabilities=able, output_format=template.output_format)


def _arguments(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        reason = "the arguments of the chat template are no JSON object"
        raise Refused(RefusalCode.INVALID, reason, parameter="chat_template_kwargs")
    return {name: value for name, value in given.items() if name not in OURS}


def _line(error: BaseException) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {error.message}"
    return " ".join(str(error).split())[:300] or type(error).__name__
