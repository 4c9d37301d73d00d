"""One request inside the simulated engine, and what the engine tells about it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

SequenceKey = Hashable


class Stage(StrEnum):
    """Where a sequence stands."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    ENDED = "ended"


class EventKind(StrEnum):
    """What happened at a step boundary."""

    FIRST_TOKEN = "first_token"  # noqa: S105 - not a password
    FINISHED = "finished"
    ABORTED = "aborted"
    PREEMPTED = "preempted"


class Event(NamedTuple):
    """One change of one sequence, at the second it happened."""

    kind: EventKind
    sequence: "Sequence_"
    at: float


@dataclass(slots=True, eq=False)
class Sequence_:  # noqa: N801 - collections.abc.Sequence has the plain name
    """``output_tokens`` is how long the answer really gets; the engine's own estimate is ``expected_tokens``."""

    key: SequenceKey
    prompt_tokens: int
    output_tokens: int
    expected_tokens: int = 0
    block_hashes: Sequence[int] = ()
    block_tokens: int = 64
    priority: int = 0
    arrived_at: float = 0.0
    stage: Stage = Stage.WAITING
    cached_tokens: int = 0  # of the prompt, found at admission
    to_prefill: int = 0  # tokens still to prefill
    prefilled: int = 0  # tokens of this round's prompt in the cache
    produced_before: int = 0  # output tokens before the current decoding stretch
    decoding_since: int = 0  # the engine's step count when this stretch gave its first token
    first_at: float | None = None
    ended_at: float | None = None
    preemptions: int = 0
    used_blocks: Sequence[int] = ()
    own_tokens: int = 0  # KV tokens that are its alone, as of ``decoding_since``
    order: int = 0  # of admission
    marks: dict[str, float] = field(default_factory=dict)  # for whoever drives the engine

    def produced(self, steps: int) -> int:
        """Output tokens after the engine's ``steps``-th step."""
        if self.stage is Stage.DECODING:
            return self.produced_before + steps - self.decoding_since + 1
        return self.produced_before

    @property
    def whole_prompt(self) -> int:
        """What has to be prefilled: the prompt, and after a preemption what was produced before it."""
        return self.prompt_tokens + self.produced_before
