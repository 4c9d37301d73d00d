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
PROBE_TOKENS = 16
"""That a first probe costs, reading included, about."""
PROBE_SHARE = 0.01
"""Of the time that the target computes may go into probes, where the drafter computes in the target's own thread."""
SELDOMEST_S = 10.0
"""But a draft that is paused is looked for so often at least: such a look takes none of the target's time."""

GAIN_WEIGHT = 0.05

LOOK_EVERY = 8
"""Steps between two looks while nobody is asked: a look costs some time of the step itself."""


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
    target_clock: Callable[[], float] = time.monotonic  # by which the target's steps are timed
    clock: Callable[[], float] = time.monotonic
    spent_s: float = 0.0  # on this step's questions, by the target's clock
    rounds: int = 0
    proposed: int = 0
    accepted: int = 0
    predicted_gain: float = 1.0
    measured_gain: float = 0.0
    _costs: Costs = field(default_factory=Costs)
    _skips: int = 0
    _probe_at: float | None = None  # no sooner; None: nobody looked yet
    _paid_at: float = 0.0  # by the target's clock: then it has computed long enough for the next probe

    def looks(self) -> bool:
        """Whether this step looks at what the drafter would be worth: where it was not lately, only now and then."""
        self.spent_s = 0.0
        self._skips = max(0, self._skips - 1)
        return self._skips == 0 or self.fixed > 0

    def chosen(self, gain: float) -> None:
        """A look is over; 1: nobody is asked."""
        self.predicted_gain = gain
        self._skips = 0 if gain > 1.0 else LOOK_EVERY

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
        longest = max((one.length for one in asks), default=0)
        proposals, took_s = self._propose(asks, self._costs.patience_s(longest))
        self._probe_at = self.clock() + PROBE_EVERY_S
        return proposals, took_s

    def _propose(self, asks: Sequence[Ask], wait_s: float) -> tuple[list[tuple[int, ...]], float]:
        began, by_target = self.clock(), self.target_clock()
        proposals = self.drafter.propose(asks, wait_s)
        self.spent_s += self.target_clock() - by_target
        return proposals, self.clock() - began

    def introduce(self, newcomers: Sequence[Asked]) -> None:
        """Let it read their text while they go on without."""
        asks = [Ask(one.key, one.tokens, min(one.limit, PROBE_LENGTH)) for one in newcomers if one.limit > 0]
        if asks:
            self._propose(asks, 0.0)

    def probe(self, running: Sequence[Asked | None]) -> None:
        """Ask about a few without waiting, where it is time."""
        now = self.clock()
        if self._probe_at is None:  # one whose costs are known is probed once there was time to pay for it
            self._probe_at = now
            self._owe(PROBE_TOKENS * self._costs.token_s)
        overdue = bool(self._costs.paused) and now >= self._probe_at + SELDOMEST_S
        if now < self._probe_at or (self.target_clock() < self._paid_at and not overdue):
            return
        self.introduce([one for one in running if one is not None][:PROBED])
        self._probe_at = self.clock() + PROBE_EVERY_S
        self._owe(self.spent_s)

    def _owe(self, spent_s: float) -> None:
        """A probe takes so much of the target's time: the next one waits until it has computed for long enough."""
        self._paid_at = self.target_clock() + spent_s / PROBE_SHARE

    def step_over(self, gain: float) -> None:
        """A step that verified its proposals made tokens so many times faster than a plain one."""
        before = self.measured_gain
        self.measured_gain = gain if before == 0.0 else before + GAIN_WEIGHT * (gain - before)
