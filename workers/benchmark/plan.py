"""How long the join benchmark measures what."""

from dataclasses import dataclass
from enum import StrEnum


class Effort(StrEnum):
    """How long to measure."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """So many seconds with between ``least`` and ``most`` streams, and now and then another number of them."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that come and go, from few streams to many; many take longer, because their steps do.

    Lengths are drawn between a least and a most, every number of tokens: kernels compute multiples of four faster
    than their neighbours, and a few fixed lengths would stand for all.
    """

    levels: tuple[Busy, ...]
    prompt_tokens: tuple[int, int] = (4, 128)
    output_tokens: tuple[int, int] = (6, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured; ``budget_s`` bounds when the next level may begin, four times that ends it whatever runs.

    ``steps``: of a batch, once they have settled. The shares are of the budget: until when batches are added, bends
    looked at more closely, prompts timed, long contexts tried, and some batches measured again; what is left is
    traffic. A machine that is quick is through with each long before. ``level`` and ``prompt``: shares that one batch
    and one prompt may take. ``prompts``: tokens, a few
    less than engines take in one step, so that none needs a second for its last few.
    """

    steps: int
    traffic: Traffic
    budget_s: float
    context_tokens: int
    level: float
    prompt: float
    climb_until: float
    bends_until: float
    prompts_until: float
    long_until: float
    again_until: float
    prompts: tuple[int, ...] = (32, 120, 500, 2000, 8000)
    most_batch: int = 256


PLANS = {
    Effort.QUICK: Plan(
        steps=6,
        traffic=Traffic(levels=()),  # the curves do not need it
        budget_s=3.0,
        context_tokens=8,
        level=0.1,
        prompt=0.18,
        climb_until=0.6,
        bends_until=0.65,
        prompts_until=0.85,
        long_until=0.9,
        again_until=1.0,
    ),
    Effort.FULL: Plan(
        steps=12,
        traffic=Traffic(
            levels=(
                Busy(least=1, most=4, seconds=3.0),
                Busy(least=4, most=8, seconds=4.0),
                Busy(least=8, most=16, seconds=5.0),
            )
        ),
        budget_s=18.0,
        context_tokens=32,
        level=0.05,
        prompt=0.08,
        climb_until=0.4,
        bends_until=0.45,
        prompts_until=0.6,
        long_until=0.65,
        again_until=0.7,
    ),
}
