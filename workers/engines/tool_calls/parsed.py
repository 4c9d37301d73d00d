"""What a parser tells of new output, and how long a mark that has begun is waited for."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from protos.contract.tools import ToolCallDelta


class Parsed(Struct, gc=False):
    """What is new. Filled by a parser, read by whoever feeds it."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()


class OutputParser(Protocol):
    """Reads one answer in pieces cut anywhere."""

    @property
    def calls(self) -> int:
        """Calls so far, complete or not."""
        ...

    @property
    def complete_calls(self) -> int:
        """Of those, how many are at their end."""
        ...

    def feed(self, text: str) -> Parsed:
        """What is certain by now."""
        ...

    def finish(self) -> Parsed:
        """The answer ended: what was held back."""
        ...


def held_back(text: str, marks: Iterable[str]) -> int:
    """Characters at the end of ``text`` that may be the beginning of a mark."""
    longest = 0
    for mark in marks:
        for length in range(min(len(mark) - 1, len(text)), longest, -1):
            if text.endswith(mark[:length]):
                longest = length
                break
    return longest


def first_of(text: str, marks: Iterable[str]) -> tuple[int, str]:
    """Where the first mark stands, and which; (-1, "") for none. Of two in one place the longer."""
    found = [(at, -len(mark), mark) for mark in marks if (at := text.find(mark)) >= 0]
    if not found:
        return -1, ""
    at, _, mark = min(found)
    return at, mark
