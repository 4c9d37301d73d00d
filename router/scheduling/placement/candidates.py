"""What a policy may look at: the candidates' figures as columns, and the request's as plain numbers.

Columns instead of objects, because a decision among a thousand workers has a millisecond. The same arrays are what
a decision record keeps, so that a replay computes from exactly what the decision saw.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import WorkerId

Floats = NDArray[np.float64]


class Column(IntEnum):
    """One figure of each candidate. Seconds, tokens and counts; the names carry the unit."""

    BASE_S = 0  # speed model: one decode step, whatever its batch
    PER_SEQUENCE_S = 1  # ... and for each sequence in it
    PER_CONTEXT_TOKEN_S = 2  # ... and for each context token those hold
    PREFILL_TOKEN_S = 3  # seconds to prefill one token
    PREFILL_BASE_S = 4  # seconds a prefill costs whatever its length
    SLOTS = 5
    CONTEXT_LIMIT = 6  # longest prompt plus output, tokens: the model's, or what its KV cache holds
    KV_CAPACITY = 7  # tokens; infinite when not known
    QUALITY_LOSS = 8  # relative perplexity loss, 0.01 is 1%
    RTT_S = 9
    SUSPENDED_UNTIL = 10  # monotonic
    OBSERVED_AT = 11  # monotonic, of the load
    RUNNING = 12
    WAITING = 13
    KV_USED = 14
    KV_FREE = 15  # tokens; infinite when nothing is held
    STANDING = 16  # running and waiting
    CONTEXT_HELD = 17
    EXPECTED_REMAINING = 18
    PREFILL_PENDING = 19
    INFLIGHT_REQUESTS = 20  # dispatched from here, not in the load yet; in the order of the four before
    INFLIGHT_CONTEXT = 21
    INFLIGHT_OUTPUT = 22
    INFLIGHT_PREFILL = 23
    OUTSTANDING = 24  # dispatched from here and not finished, whatever the load says
    CACHED_TOKENS = 25  # of this request's prompt
    PREFILL_SHARE = 26  # of the last seconds that the worker spent prefilling: decode steps are longer by it
    # Requests from here that run there with a TPOT target still to keep, and how far they are ahead of it, on the mean,
    # when the load was observed: first those with hardly a lead, then the others.
    TIGHT = 27
    TIGHT_AHEAD_S = 28
    EASY = 29
    EASY_AHEAD_S = 30


COLUMNS = len(Column)


class InstanceKey(NamedTuple):
    """One model at one quantization on one worker."""

    worker_id: WorkerId
    model: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The workers that every filter let through; ``data[column, i]`` belongs to ``keys[i]``."""

    keys: tuple[InstanceKey, ...]
    nodes: tuple[str, ...]
    data: Floats

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, column: Column) -> Floats:
        """One figure of all candidates."""
        figures: Floats = self.data[column]
        return figures


class RequestFacts(NamedTuple):
    """What a score depends on of the request. Targets are infinite when there are none."""

    now: float  # monotonic
    waited_s: float
    prompt_tokens: int
    output_tokens: float  # expected
    ttft_target_s: float = float("inf")  # from arrival, with its share per prompt token
    tpot_target_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Scores:
    """Lower is better. ``terms`` name what the score is made of, each an array over the candidates."""

    cost: Floats
    terms: dict[str, Floats]
