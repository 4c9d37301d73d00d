"""Is a figure flat over a run? Pure: samples in, verdicts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WARM_UP = 0.3
"""Share of a run in which caches and pools may fill."""
PART = 0.2
"""Shares of the rest, its first and its last, whose medians are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the router held at one moment."""

    at_s: float
    memory_bytes: float
    descriptors: float
    tasks: float
    claims: float
    requests: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much a figure may grow from a warm pool to the end: by a share, and by so much whatever it was."""

    figure: str
    share: float
    more: float


BOUNDS = (
    Bound(figure="memory_bytes", share=0.10, more=8 * 2**20),
    Bound(figure="descriptors", share=0.25, more=16),
    Bound(figure="tasks", share=0.25, more=24),
    Bound(figure="claims", share=0.5, more=16),
    Bound(figure="requests", share=0.5, more=16),
)
"""Under load all but memory move with the requests and workers of the moment: what leaks slowly is seen in the idle
pool, where claims and requests must be none, tasks and descriptors as before (``left_over``).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A figure's medians when warm and at the end."""

    figure: str
    warm: float
    end: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it did not grow beyond its bound."""
        return self.end <= self.allowed


def verdicts(samples: Sequence[Held]) -> list[Verdict]:
    """Of every figure. Raises ValueError with too few samples to tell."""
    warm = samples[int(len(samples) * WARM_UP) :]
    part = int(len(warm) * PART)
    if part < 3:
        raise ValueError(f"{len(samples)} samples are too few to tell whether anything grows")
    found = []
    for bound in BOUNDS:
        before = median(getattr(one, bound.figure) for one in warm[:part])
        after = median(getattr(one, bound.figure) for one in warm[-part:])
        allowed = before * (1.0 + bound.share) + bound.more
        found.append(Verdict(figure=bound.figure, warm=before, end=after, allowed=allowed))
    return found


def left_over(before: Held, after: Held) -> list[str]:
    """What an idle pool holds more after a run than before it, in words. Requests and claims must be none."""
    said = [f"{after.requests:.0f} requests have not ended"] if after.requests else []
    said += [f"{after.claims:.0f} claims are open"] if after.claims else []
    if after.tasks > before.tasks + 2:
        said.append(f"{after.tasks:.0f} tasks, {before.tasks:.0f} before")
    if after.descriptors > before.descriptors + 4:
        said.append(f"{after.descriptors:.0f} descriptors, {before.descriptors:.0f} before")
    return said
