"""What a target does with a drafter that has a model: whom to ask, for how long to wait, when to look whether it pays.

Where it does not pay, a question that nobody waits for goes out now and then; what comes back is judged by what the
target said meanwhile, so that finding out costs the target nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.speculation.drafter import Ask, Costs, Drafter
from workers.speculation.governor import Candidate

MOST = 8
"""Proposals of a model in one round."""

PROBE_EVERY_S = 1.0
PROBE_LENGTH = 3
PROBED = 4
"""Sequences asked about in one probe."""

GAIN_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """A sequence for whom a drafter may be asked: its name, its text, the most that may be proposed."""

    key: str
    tokens: Sequence[int]
    limit: int


@dataclass(slots=True)
class DraftUse:
    """One drafter's use by one target model. ``fixed``: ask for so many each round, whether it pays or not."""

    drafter: Drafter
    fixed: int = 0
    clock: Callable[[], float] = time.monotonic
    rounds: int = 0
    proposed: int = 0
    accepted: int = 0
    predicted_gain: float = 1.0
    measured_gain: float = 0.0
    _costs: Costs = field(default_factory=Costs)
    _probed_at: float = float("-inf")

    def begin_step(self) -> None:
        """What it costs now."""
        self._costs = self.drafter.costs

    def candidate(self, one: Asked, *, hypothetical: bool = False) -> Candidate | None:
        """What it would be worth for this sequence; None: it is not asked. ``hypothetical``: as if it had read it."""
        most = min(one.limit, self.fixed or MOST)
        if self._costs.paused or most <= 0:
            return None
        ready = 0 if hypothetical else self.drafter.ready(one.key, one.tokens)
        if ready:
            return Candidate(self.drafter.chances(one.key, min(ready, most)))
        if self._costs.token_s > 0.0 and (hypothetical or self.drafter.answered(one.key)):
            chances = self.drafter.chances(one.key, most)
            return Candidate(chances, self._costs.token_s, self._costs.wait_s)
        return None

    def newcomers(self, running: Sequence[Asked | None]) -> list[Asked]:
        """Sequences that it has not read yet."""
        if self._costs.paused or self._costs.token_s <= 0.0:
            return []
        return [one for one in running if one is not None and not self.drafter.answered(one.key)]

    def fetch(self, asks: Sequence[Ask]) -> tuple[list[tuple[int, ...]], float]:
        """Proposals, and the seconds that were waited for them."""
        began = self.clock()
        longest = max((one.length for one in asks), default=0)
        proposals = self.drafter.propose(asks, self._costs.patience_s(longest))
        self._probed_at = self.clock()
        return proposals, self._probed_at - began

    def introduce(self, newcomers: Sequence[Asked]) -> None:
        """Let it read their text while they go on without."""
        asks = [Ask(one.key, one.tokens, min(one.limit, PROBE_LENGTH)) for one in newcomers if one.limit > 0]
        if asks:
            self.drafter.propose(asks, 0.0)

    def probe(self, running: Sequence[Asked | None]) -> None:
        """Ask about a few without waiting, where it is time."""
        now = self.clock()
        if now - self._probed_at < PROBE_EVERY_S:
            return
        self._probed_at = now
        self.introduce([one for one in running if one is not None][:PROBED])

    def step_over(self, gain: float) -> None:
        """A step that verified its proposals made tokens so many times faster than a plain one."""
        before = self.measured_gain
        self.measured_gain = gain if before == 0.0 else before + GAIN_WEIGHT * (gain - before)
