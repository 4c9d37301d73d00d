"""How many proposals of each sequence are worth verifying in the next step. Pure.

Each row that a step computes beyond the plain ones has a chance of yielding a token: the product of the chances along
its proposal. The rows with the best chances are taken, as many as make the most tokens a second of the whole step by
what verifying costs here; none where that is nothing, or where those who speculate would slow those who do not.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.speculation.verify_curve import VerifyCurve

BEGIN_GAIN = 1.04
"""Predicted gain from which speculation begins; where it is on already, any gain above ``KEEP_GAIN`` keeps it on."""

KEEP_GAIN = 1.03

PROBE_EVERY = 16
"""Steps between two that believe costs to be as low as they may be: what few steps told of is tried now and then."""

SLOWEST = 0.95
"""No sequence may be predicted to go slower than this share of its speed without speculation."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence's proposals: each one's chance given those before it, and what they cost beside the target's step."""

    chances: tuple[float, ...] = ()
    draft_token_s: float = 0.0  # for each proposal, where the target has to wait for it
    wait_s: float = 0.0  # for all together: the round trip, less what the last step hid


@dataclass(frozen=True, slots=True)
class Allotment:
    """Proposals to verify, by candidate, and how many times faster the step makes tokens than a plain one."""

    lengths: tuple[int, ...]
    gain: float = 1.0


def allot(
    candidates: Sequence[Candidate], step_s: Callable[[int], float], *, plain_rows: int, most_rows: int, on: bool
) -> Allotment:
    """The best lengths. ``step_s(rows)``: seconds of a step; ``plain_rows``: it computes anyway (one for each sequence
    that decodes, and prompt tokens); ``most_rows``: there is room for in all; ``on``: whether the last step speculated.

    >>> cost = {1: 10.0, 2: 11.0, 3: 12.0, 4: 13.0}
    >>> allot([Candidate((0.9, 0.9, 0.1))], cost.__getitem__, plain_rows=1, most_rows=4, on=False).lengths
    (2,)
    """
    none = Allotment((0,) * len(candidates))
    room = most_rows - plain_rows
    if room <= 0 or not candidates:
        return none
    plain_s = step_s(plain_rows)
    lengths = [0] * len(candidates)
    tokens = [1.0] * len(candidates)
    best, best_gain = none, 1.0
    ahead = [(-one.chances[0], index) for index, one in enumerate(candidates) if one.chances]
    heapq.heapify(ahead)
    total, rows, waited = float(len(candidates)), plain_rows, 0.0
    while ahead and rows < plain_rows + room:
        reached, index = heapq.heappop(ahead)
        one = candidates[index]
        lengths[index] += 1
        rows += 1
        tokens[index] -= reached
        total -= reached
        if lengths[index] < len(one.chances):
            heapq.heappush(ahead, (reached * one.chances[lengths[index]], index))
        waited = max(waited, one.wait_s + lengths[index] * one.draft_token_s)
        slower = (step_s(rows) + waited) / plain_s
        gain = total / len(candidates) / slower
        if gain > best_gain and min(tokens) >= SLOWEST * slower:
            best, best_gain = Allotment(tuple(lengths), gain), gain
    return best if best_gain >= (KEEP_GAIN if on else BEGIN_GAIN) else none


@dataclass(slots=True)
class Governor:
    """``allot`` from step to step: it stays on or off until that pays, and tries what may be better than it seems."""

    gain: float = 1.0  # predicted of what was chosen last
    on: bool = False
    _steps: int = 0

    def begin_step(self) -> None:
        """Every ``PROBE_EVERY``-th takes costs for as low as they may be."""
        self._steps += 1

    @property
    def _probes(self) -> bool:
        return self._steps % PROBE_EVERY == 0 and self._steps > 0

    def allot(
        self, candidates: Sequence[Candidate], curve: VerifyCurve, *, plain_rows: int, most_rows: int
    ) -> Allotment:
        """What the function of that name says of this step."""
        step_s = self._believed(curve, plain_rows) if self._probes else curve.seconds
        return allot(candidates, step_s, plain_rows=plain_rows, most_rows=most_rows, on=self.on)

    def _believed(self, curve: VerifyCurve, plain_rows: int) -> Callable[[int], float]:
        """In a probe: of what is not done at present it is believed that it costs as little as it may."""
        plain_doubted = self.on and self._steps // PROBE_EVERY % 2 == 0

        def step_s(rows: int) -> float:
            return curve.hoped(rows) if (rows == plain_rows) == plain_doubted else curve.seconds(rows)

        return step_s

    def chosen(self, allotment: Allotment) -> None:
        """That is what the step does."""
        if not self._probes:
            self.on, self.gain = any(allotment.lengths), allotment.gain
