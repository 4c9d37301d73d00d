"""What a policy may look at: the candidates' figures as columns, and the request's as plain numbers.

Columns instead of objects, because a decision among a thousand workers has a millisecond. The same arrays are what
a decision record keeps, so that a replay computes from exactly what the decision saw.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import WorkerId
from router.scheduling.placement.curves import Curves

Floats = NDArray[np.float64]


class InstanceKey(NamedTuple):
    """One model at one quantization on one worker."""

    worker_id: WorkerId
    model: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The workers that every filter let through; ``data[column, i]`` (see ``columns``) belongs to ``keys[i]``."""

    keys: tuple[InstanceKey, ...]
    nodes: tuple[str, ...]
    data: Floats
    curves: Curves | None = None  # None: all have straight lines

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.intp]) -> "Candidates":
        """Some of them, in the order given."""
        numbers = rows.tolist()
        return Candidates(
            tuple([self.keys[i] for i in numbers]),
            tuple([self.nodes[i] for i in numbers]),
            self.data[:, rows],
            None if self.curves is None else self.curves.take(rows),
        )


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
