"""One answer's channels: its thoughts first, then text and calls; and what it began with elsewhere, read again."""

from collections.abc import Callable
from uuid import uuid4

from protos.contract.tools import ToolChoice, Tooling
from workers.engines.tool_calls.formats import make_parser
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.parsed import OutputParser, Parsed
from workers.engines.tool_calls.thoughts import ThoughtMarks, ThoughtSplitter


def random_id() -> str:
    """As OpenAI's look."""
    return f"call_{uuid4().hex[:24]}"


def short_id() -> str:
    """Nine letters and digits: Mistral's templates take no others."""
    return uuid4().hex[:9]


class Channels:
    """Tells an answer's channels apart; where it has one alone, it is not ``needed``."""

    def __init__(
        self,
        *,
        form: Format,
        tooling: Tooling | None,
        thoughts: ThoughtMarks | None,
        opened: bool,
        make_id: Callable[[], str] | None = None,
    ) -> None:
        self._thoughts = ThoughtSplitter(thoughts, opened=opened) if thoughts is not None else None
        self._parser: OutputParser | None = None
        self._single = tooling is not None and tooling.single
        if form.channels or (tooling is not None and tooling.choice is not ToolChoice.NONE):
            tools = () if tooling is None or tooling.choice is ToolChoice.NONE else tooling.tools
            ids = make_id or (short_id if form.name == "mistral" else random_id)
            self._parser = make_parser(form, tools, ids)

    answered = ""
    """What the last piece fed had of the answer, as it was written."""

    @property
    def needed(self) -> bool:
        """Whether there is anything to be told apart."""
        return self._thoughts is not None or self._parser is not None

    @property
    def called(self) -> bool:
        """The answer has calls."""
        return self._parser is not None and self._parser.calls > 0

    @property
    def answering(self) -> bool:
        """Thoughts are over: what a grammar is for has begun."""
        return self._thoughts is None or self._thoughts.answering

    @property
    def complete(self) -> bool:
        """The only call there may be is there."""
        return self._single and self._parser is not None and self._parser.complete_calls > 0

    def feed(self, raw: str) -> Parsed:
        """What is certain by now."""
        if self._thoughts is None:
            self.answered = raw
            return self._text(raw)
        thoughts, answer = self._thoughts.feed(raw)
        self.answered = answer
        parsed = self._text(answer) if answer else Parsed()
        parsed.reasoning = thoughts
        return parsed

    def finish(self) -> Parsed:
        """The answer ended: what was held back."""
        thoughts, answer = self._thoughts.finish() if self._thoughts is not None else ("", "")
        parsed = self._text(answer)
        parsed.reasoning = thoughts
        if self._parser is not None:
            last = self._parser.finish()
            parsed.text += last.text
            parsed.calls = (*parsed.calls, *last.calls)
        return parsed

    def _text(self, answer: str) -> Parsed:
        return self._parser.feed(answer) if self._parser is not None else Parsed(text=answer)
