"""Rule: the search finds the load at which 95% stops, wherever it starts."""

import pytest

from loadtest.simulate.metrics import Figures
from loadtest.simulate.search import find_knee


def at(rate: float, breaks: float) -> Figures:
    """A pool whose share inside the targets falls through 95% at ``breaks``."""
    within = min(1.0, max(0.95 - 0.5 * (rate / breaks - 1.0), 0.0))
    return Figures(
        offered=rate,
        goodput=rate * within,
        within=within,
        requests=100,
        shed={},
        ttft_s={},
        tpot_s={},
        prefix_hit=0.0,
        utilisation={},
        fairness=1.0,
        quality_floor_broken=0,
        preemptions=0,
    )


@pytest.mark.parametrize("stride", [1.25, 2.0])
@pytest.mark.parametrize("first", [0.4, 1.0, 2.5])
def test_the_knee_is_found_from_above_and_below(first: float, stride: float) -> None:
    """Within the precision asked for."""
    knee = find_knee(lambda rate: at(rate, 1.0), first, precision=0.02, stride=stride, steps=12)
    assert knee.goodput == pytest.approx(0.95, rel=0.03)
    assert len(knee.tried) <= 12


def test_who_holds_no_load_gets_none() -> None:
    """And it does not take for ever to say so."""
    knee = find_knee(lambda rate: at(rate, 1e-9), 1.0, stride=1.25)
    assert knee.goodput == 0.0
    assert knee.figures is None
    assert len(knee.tried) <= 9
