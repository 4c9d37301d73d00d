"""What became of every request, and the figures of a run: goodput, TTFT, TPOT, shed, prefix hits, use, fairness."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from loadtest.simulate.router_side import SLO
from loadtest.simulate.traffic import Arrival
from router.scheduling.placement.quality import TabulatedQuality

WARM_UP = 0.1
"""Share of the requests, the first ones, that are served and not counted..."""

COOL_DOWN = 0.1
"""...and of the last ones. What is sought is the rate that can be kept up. The first come to an empty pool, behind the
last nobody comes: both are served better than any policy could serve them for long, and counting them would set
goodput, everybody's alike, too high for the bound beside it.
"""


@dataclass(slots=True, kw_only=True)
class Served:
    """One request's way. Times are seconds on the virtual clock, as the client sees them."""

    arrival: Arrival
    node: str = ""
    quantization: str = ""
    dispatched_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0
    shed: str = ""  # the refusal's code

    @property
    def ttft_s(self) -> float:
        """Receipt to first token."""
        return self.first_at - self.arrival.at

    @property
    def tpot_s(self) -> float:
        """(E2E - TTFT) / (output tokens - 1); 0 for a single token."""
        return (self.ended_at - self.first_at) / max(self.arrival.output_tokens - 1, 1)

    @property
    def good(self) -> bool:
        """Inside both targets."""
        if self.shed:
            return False
        assert SLO.ttft_s is not None
        assert SLO.tpot_s is not None
        allowed = SLO.ttft_s + SLO.ttft_per_prompt_token_s * self.arrival.prompt_tokens
        return self.ttft_s <= allowed and self.tpot_s <= SLO.tpot_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run. Rates are requests a second; times seconds."""

    offered: float
    goodput: float
    within: float  # share of the counted requests inside the targets
    requests: int
    shed: dict[str, int]
    ttft_s: dict[str, float]  # p50, p95, p99
    tpot_s: dict[str, float]
    prefix_hit: float  # share of prompt tokens found in a cache
    utilisation: dict[str, float]  # share of the run each worker was busy
    fairness: float  # Jain's index over the tenants' shares inside the targets
    quality_floor_broken: int
    preemptions: int
    by_worker: dict[str, int] = field(default_factory=dict)


def window(count: int) -> range:
    """Which of so many requests, by their place, are counted."""
    return range(int(count * WARM_UP), max(int(count * (1.0 - COOL_DOWN)), int(count * WARM_UP) + 1))


def figures(
    served: Sequence[Served], busy_s: dict[str, float] | None = None, arrivals: Sequence[Arrival] | None = None
) -> Figures:
    """The figures over all but warm-up and cool-down. ``busy_s``: seconds each worker worked.

    ``arrivals``: all that came, where ``served`` is what had ended when a run was given up; what had not counts as
    inside the targets, which is the best that could be said of it.
    """
    came = arrivals if arrivals is not None else [one.arrival for one in served]
    inside = window(len(came))
    first, last = came[inside[0]], came[inside[-1]]
    counted = [one for one in served if first.number <= one.arrival.number <= last.number]
    done = [one for one in counted if not one.shed]
    total = len(inside)
    offered = (total - 1) / max(last.at - first.at, 1e-9)
    within = 1.0 - sum(not one.good for one in counted) / total
    span = came[-1].at
    whole = max((one.ended_at for one in served if not one.shed), default=span)
    prompt = sum(one.arrival.prompt_tokens for one in done)
    return Figures(
        offered=offered,
        goodput=offered * within,
        within=within,
        requests=total,
        shed=dict(Counter(one.shed for one in counted if one.shed)),
        ttft_s=_percentiles([one.ttft_s for one in done]),
        tpot_s=_percentiles([one.tpot_s for one in done if one.arrival.output_tokens > 1]),
        prefix_hit=sum(one.cached_tokens for one in done) / prompt if prompt else 0.0,
        utilisation={node: seconds / whole for node, seconds in (busy_s or {}).items()},
        fairness=_jain(counted),
        quality_floor_broken=broken_floors(served),
        preemptions=sum(one.preemptions for one in done),
        by_worker=dict(Counter(one.node for one in done)),
    )


def broken_floors(served: Sequence[Served]) -> int:
    """Requests that were served below their quality floor. Must be none."""
    quality = TabulatedQuality()
    return sum(
        1
        for one in served
        if not one.shed and one.arrival.floor and not quality.at_least(one.quantization, one.arrival.floor)
    )


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    low, high, highest = np.percentile(values, [50, 95, 99])
    return {"p50": float(low), "p95": float(high), "p99": float(highest)}


def _jain(counted: Sequence[Served]) -> float:
    """(sum x)^2 / (n sum x^2) over tenants, x: share of a tenant's requests inside the targets (Jain 1984)."""
    asked: dict[str, int] = defaultdict(int)
    good: dict[str, int] = defaultdict(int)
    for one in counted:
        asked[one.arrival.tenant] += 1
        good[one.arrival.tenant] += one.good
    shares = [good[tenant] / asked[tenant] for tenant in asked]
    square = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * square) if square else 1.0
