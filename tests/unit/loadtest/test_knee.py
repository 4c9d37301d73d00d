"""Rule: a load holds only where 95% of the requests that count lie inside the targets, however early a run ends."""

import pytest

from loadtest.simulate.cases import GIVE_UP_AT, Case, run_at
from loadtest.simulate.metrics import window
from loadtest.simulate.search import REQUIRED

pytestmark = pytest.mark.holds_claims


def test_the_first_and_the_last_tenth_do_not_count() -> None:
    """They are served by a pool that fills or empties."""
    assert window(1000) == range(100, 900)
    assert len(window(1)) == 1


@pytest.mark.parametrize("policy", ["cache_aware", "round_robin", "cost"])
def test_a_run_that_is_given_up_never_looks_good(policy: str) -> None:
    """At many times the bound nearly all are refused, in the warm-up already."""
    case = Case(fleet="deploy/fleets/home_lab.toml", traffic="azure-like", policy=policy, seed=11, requests=400)
    assert run_at(case, 40.0, give_up_at=GIVE_UP_AT).within < REQUIRED
