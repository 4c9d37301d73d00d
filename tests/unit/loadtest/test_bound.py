"""Rule: the bound is one. No schedule gets beyond it, and it moves the way capacity does."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.simulate.bounds.bound import best_goodput
from loadtest.simulate.bounds.demands import straight
from loadtest.simulate.cases import Case, bound_of, run_at
from loadtest.simulate.fleet import FleetSpec, read_fleet
from loadtest.simulate.search import REQUIRED
from loadtest.simulate.traffic import Arrival
from workers.engines.simulated.parameters import EngineParameters

pytestmark = pytest.mark.holds_claims

HOME = "deploy/fleets/home_lab.toml"
PLAIN = EngineParameters(
    base_s=0.02, per_sequence_s=0.002, per_context_token_s=0.0, prefill_token_s=0.0001, slots=8, chunk_tokens=512
)


@pytest.fixture(scope="module")
def one_machine() -> FleetSpec:
    """The gaming PC of the home lab alone."""
    fleet = read_fleet(Path(HOME))
    return replace(fleet, nodes=fleet.nodes[-1:])


def same(count: int, *, prompt: int = 1000, output: int = 101, model: str = "llama-3.1-8b") -> list[Arrival]:
    """Requests that are all alike and share nothing."""
    return [Arrival(k, float(k), prompt, output, (), model, None, "t") for k in range(count)]


def test_a_case_that_can_be_worked_out_by_hand_comes_out_so(one_machine: FleetSpec) -> None:
    """0.1 s of prefill, 100 steps of 2 ms of its own and an eighth of 100 steps of 20 ms: 0.55 s a request."""
    found = best_goodput(one_machine, same(60), [PLAIN], left_out=0.0)
    assert found == pytest.approx(1 / 0.55, rel=1e-6)


def test_what_need_not_be_served_adds_its_share(one_machine: FleetSpec) -> None:
    """Alike requests: serving 95% of them for the same work lets no more through, only the offered rate rises."""
    assert best_goodput(one_machine, same(60), [PLAIN], left_out=0.05) == pytest.approx(1 / 0.55, rel=1e-6)


def test_a_request_that_no_worker_serves_in_time_is_left_out(one_machine: FleetSpec) -> None:
    """40,000 tokens take 40 s here and have 42; at 12 s more a token nobody could."""
    slow = replace(PLAIN, prefill_token_s=0.0012, context_tokens=100_000, kv_capacity_tokens=200_000)
    assert best_goodput(one_machine, same(60, prompt=40_000), [slow]) == 0.0
    assert best_goodput(one_machine, same(60, prompt=40_000), [replace(slow, prefill_token_s=0.0009)]) > 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"base_s": 0.01},
        {"per_sequence_s": 0.001},
        {"prefill_token_s": 0.00005},
        {"slots": 16},
    ],
    ids=str,
)
def test_a_faster_machine_raises_it(one_machine: FleetSpec, change: dict[str, float]) -> None:
    """In whatever respect; here each of them binds."""
    before = best_goodput(one_machine, same(60), [PLAIN])
    assert best_goodput(one_machine, same(60), [replace(PLAIN, **change)]) > before * 1.01  # type: ignore[arg-type]


def test_measured_curves_count_as_lines_below_them() -> None:
    """Whatever the curve's shape."""
    curves = replace(PLAIN, decode_curve_s=(0.02, 0.03, 0.031, 0.045), prefill_curve=((1, 0.01), (512, 0.03)))
    lines = straight(curves)
    for batch in range(1, 9):
        assert lines.decode_s(batch, 0) <= curves.decode_s(batch, 0)
    for tokens in (1, 100, 512, 4000):
        assert lines.prefill_s(tokens, 0) <= curves.prefill_s(tokens, 0)


@pytest.mark.parametrize("traffic", ["azure-like", "code-like", "agent-like"])
@pytest.mark.parametrize("policy", ["cost", "weighted_least_request"])
def test_no_policy_keeps_the_targets_beyond_it(traffic: str, policy: str) -> None:
    """A few percent above the bound the targets break for everybody; bursts come at a rate of their own."""
    case = Case(fleet=HOME, traffic=traffic, policy=policy, seed=5, requests=500)
    bound = bound_of(case)
    found = run_at(case, 1.05 * bound, give_up_at=0.1)
    assert found.within < REQUIRED or found.goodput <= bound
