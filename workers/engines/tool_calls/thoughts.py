"""Thoughts before the answer: what stands between a model's own marks for them."""

from dataclasses import dataclass

from workers.engines.tool_calls.json_call import SPACE
from workers.engines.tool_calls.parsed import held_back


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """Around thoughts."""

    open: str
    close: str


MARKS = (
    ThoughtMarks("<think>", "</think>"),  # DeepSeek R1, Qwen 3, QwQ, SmolLM 3, GLM, Granite 4
    ThoughtMarks("[THINK]", "[/THINK]"),  # Magistral
    ThoughtMarks("<|channel>thought", "<channel|>"),  # Gemma 4
    ThoughtMarks("<seed:think>", "</seed:think>"),  # Seed-OSS
)


class ThoughtSplitter:
    """Reads an answer in pieces cut anywhere. ``opened``: the prompt's end has the opening mark already."""

    def __init__(self, marks: ThoughtMarks, *, opened: bool) -> None:
        self._marks = marks
        self._thinking = opened
        self._undecided = not opened  # nothing but space so far
        self._fresh = True  # of thoughts, or of the answer after them: space at the beginning is left out
        self._rest = ""

    @property
    def answering(self) -> bool:
        """Thoughts, if there are any, are over."""
        return not self._thinking and not self._undecided

    def feed(self, text: str) -> tuple[str, str]:
        """(thoughts, answer) that are certain by now."""
        self._rest += text
        if self._undecided and not self._decide():
            return "", ""
        return self._thoughts() if self._thinking else ("", self._take(len(self._rest)))

    def finish(self) -> tuple[str, str]:
        """What was held back."""
        held, self._rest = self._rest, ""
        return (held, "") if self._thinking else ("", held)

    def _decide(self) -> bool:
        stripped = self._rest.lstrip(SPACE)
        if stripped.startswith(self._marks.open):
            self._thinking, self._undecided = True, False
            self._rest = stripped[len(self._marks.open) :]
            return True
        if self._marks.open.startswith(stripped):
            return False
        self._undecided, self._fresh = False, False
        return True

    def _thoughts(self) -> tuple[str, str]:
        at = self._rest.find(self._marks.close)
        if at < 0:
            keep = held_back(self._rest, (self._marks.close,))
            whole = len(self._rest) - keep
            space = whole - len(self._rest[:whole].rstrip(SPACE))  # before the mark it is left out
            return self._take(whole - space), ""
        thoughts = self._take(at).rstrip(SPACE)
        self._rest = self._rest[len(self._marks.close) :]
        self._thinking, self._fresh = False, True
        return thoughts, self._take(len(self._rest))

    def _take(self, length: int) -> str:
        """The first so many characters, without space at the very beginning."""
        taken, self._rest = self._rest[:length], self._rest[length:]
        if self._fresh:
            taken = taken.lstrip(SPACE)
            self._fresh = not taken
        return taken
