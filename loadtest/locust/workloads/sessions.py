"""What users do: a session is a conversation of one or more turns, sent one after the other."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How a workload's lengths are fitted to a small model or machine. Bounds in tokens."""

    scale: float = 1.0  # of every drawn length
    longest_prompt: int = 12_000  # a session ends before the turn that would pass it
    longest_output: int = 2_000

    def prompt(self, tokens: float) -> int:
        """A drawn prompt length as it is asked for."""
        return min(max(round(tokens * self.scale), 4), self.longest_prompt)

    def output(self, tokens: float) -> int:
        """A drawn answer length as it is asked for."""
        return min(max(round(tokens * self.scale), 2), self.longest_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request: what the user adds to the conversation, and how long the answer may get.

    ``think_s``: seconds between the last answer's end and this request. ``tool_result``: sent instead of ``text``, as
    the tool's message, when the last answer called a tool.
    """

    text: str
    output_tokens: int
    think_s: float = 0.0
    tool_result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation. ``at``: when it begins, in units of mean gaps between requests, or seconds where it is ``timed``.

    ``tools`` and ``response_format`` go out as OpenAI's API has them; ``plain`` is what the system prompt says in their
    place to an endpoint that refuses them.
    """

    number: int
    at: float
    kind: str
    turns: tuple[Turn, ...]
    system: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    response_format: dict[str, Any] | None = None
    plain: str = ""
    ignore_eos: bool = True  # answers get as long as they were drawn; False: the model may end them


Sessions = Callable[[random.Random, Sizes], Iterator[Session]]
"""A workload: sessions without end, in the order of their times, one request in each unit of time on average."""
