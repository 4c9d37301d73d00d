"""What every placement policy keeps, whatever it goes by: the router's, the simulator's, and one of one page.

A new policy is one module and one line in a table, and passes this suite.
"""

import math
import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulate.policies import POLICIES as SIMULATED
from protos.contract.ids import WorkerId
from router.domain.placement import NoCandidate, Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.explain.replay import differences, replay
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import COLUMNS, Column
from router.scheduling.placement.policies import POLICIES as SERVED
from router.scheduling.placement.policies import PolicyTable, build_policy
from router.scheduling.placement.policy import Policy
from tests.support.placements import (
    DETERMINISTIC,
    NOW,
    chosen,
    cost_of,
    fleets,
    placer,
    recorded,
    requests,
    why_not,
)
from tests.support.toy_policy import ShortestPrefill

POLICIES: PolicyTable = {**SIMULATED, "shortest_prefill": ShortestPrefill}
"""The router's are among the simulator's. The last line is all that the toy needs."""

FACTS = RequestFacts(NOW, 0.5, 1000, 200.0, ttft_target_s=3.0, tpot_target_s=0.1)
streams = st.lists(requests(), min_size=1, max_size=3, unique_by=lambda one: one.request_id)
every_policy = pytest.mark.parametrize("name", POLICIES)


def policy(name: str, seed: int = 1, **parameters: float) -> Policy:
    """A fresh one."""
    return build_policy(name, random.Random(seed), POLICIES, **parameters)


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    """A few, with any figures; some are alike in all of them."""
    count = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = rng.integers(0, draw(st.sampled_from([2, 50, 5000])), (COLUMNS, count)).astype(np.float64)
    data[Column.SLOTS] += 1.0
    data[Column.BASE_S] += 0.01
    data[Column.CACHED_TOKENS] = np.minimum(data[Column.CACHED_TOKENS], FACTS.prompt_tokens - 1)
    data[[Column.PREFILL_SHARE, Column.KV_USED]] = rng.random((2, count)) / 2
    return the_candidates(data)


def the_candidates(data: Floats, first: int = 0) -> Candidates:
    """Named by number."""
    names = [f"w{first + number}" for number in range(data.shape[1])]
    return Candidates(tuple(InstanceKey(WorkerId(name), "m", "q8_0") for name in names), tuple(names), data)


def scored(one: Policy, given_to: Candidates, inputs: Mapping[str, Floats]) -> dict[str, list[float]]:
    """Cost and terms, as plain numbers."""
    found: Scores = one.score(given_to, FACTS, inputs)
    return {"cost": found.cost.tolist(), **{name: values.tolist() for name, values in found.terms.items()}}


def test_every_policy_stands_in_the_table_under_its_own_name() -> None:
    """As the command line and the records call it; what the router serves, the simulator plays."""
    assert {name: policy(name).name for name in POLICIES} == {name: name for name in POLICIES}
    assert SERVED.items() <= SIMULATED.items()


@every_policy
@DETERMINISTIC
@given(fleet=fleets(), asked=requests(), avoided=st.sets(st.sampled_from(["w0", "w1", "w2"])))
def test_no_worker_that_a_filter_excludes_is_ever_placed(
    name: str, fleet: FleetSnapshot, asked: InferenceRequest, avoided: set[str]
) -> None:
    """Whatever the policy: who is placed may answer, and where nobody is, every worker has its reason."""
    avoid = frozenset(WorkerId(one) for one in avoided)
    outcome = placer(name, policies=POLICIES).place(asked, fleet, NOW, avoid=avoid)
    if isinstance(outcome, NoCandidate):
        assert {one.worker_id for one in outcome.exclusions} == {one.worker_id for one in fleet.workers}
        assert all(one.reason and one.filter for one in outcome.exclusions)
        return
    view, held = chosen(fleet, outcome)
    assert why_not(view, held, asked) == ""
    assert outcome.worker_id not in avoid


@every_policy
@DETERMINISTIC
@given(fleet=fleets(), asked=streams)
def test_replay_equals_the_record(name: str, fleet: FleetSnapshot, asked: list[InferenceRequest]) -> None:
    """Through JSON and back: the same pick, the same terms to the ninth digit, the random policies' too."""
    placing = placer(name, policies=POLICIES)
    for one in asked:
        record = recorded(placing, fleet, one)
        if record is None:
            continue
        again = replay(record, policies=POLICIES)
        assert again.same
        assert differences(record, again) == []
        assert math.isfinite(cost_of(record))
        assert set(record.candidates[0].values) == {column.name.lower() for column in Column}


@every_policy
@settings(DETERMINISTIC, max_examples=20)
@given(fleet=fleets(least=3), asked=streams, seed=st.integers(0, 100))
def test_a_seed_decides_everything(name: str, fleet: FleetSnapshot, asked: list[InferenceRequest], seed: int) -> None:
    """Two placers with the same seed place the same requests alike, one after the other."""
    first, second = (placer(name, policies=POLICIES, seed=seed) for _ in range(2))
    for one in asked:
        placed = [placing.place(one, fleet, NOW) for placing in (first, second)]
        assert placed[0] == placed[1]
        for placing, outcome in zip((first, second), placed, strict=True):
            if isinstance(outcome, Placed):
                placing.dispatched(one, outcome, NOW)


@every_policy
@DETERMINISTIC
@given(given_to=candidates())
def test_a_score_is_a_number_for_each_candidate_and_changes_nothing(name: str, given_to: Candidates) -> None:
    """The figures are the record's; asked again, it says the same."""
    one = policy(name)
    inputs = one.inputs(given_to, FACTS)
    before = given_to.data.copy(), {key: values.copy() for key, values in inputs.items()}
    found = scored(one, given_to, inputs)
    assert {len(values) for values in found.values()} == {len(given_to)}
    assert not np.isnan(found["cost"]).any()
    assert min(found["cost"]) < math.inf
    assert scored(one, given_to, inputs) == found
    assert np.array_equal(given_to.data, before[0])
    assert all(np.array_equal(values, before[1][key]) for key, values in inputs.items())
    assert all(len(values) in (1, len(given_to)) for values in inputs.values())


@every_policy
@DETERMINISTIC
@given(given_to=candidates())
def test_its_parameters_make_the_same_policy_again(name: str, given_to: Candidates) -> None:
    """They are all that a record keeps of it."""
    one = policy(name)
    inputs = one.inputs(given_to, FACTS)
    assert scored(policy(name, seed=2, **one.parameters()), given_to, inputs) == scored(one, given_to, inputs)


@every_policy
@DETERMINISTIC
@given(given_to=candidates())
def test_who_looks_at_the_whole_pool_says_so(name: str, given_to: Candidates) -> None:
    """Of the others a record keeps the cheapest candidates only, and each must cost what it cost among all."""
    one = policy(name)
    if one.whole_pool:
        return
    inputs = one.inputs(given_to, FACTS)
    among_all = scored(one, given_to, inputs)
    for number in range(len(given_to)):
        own = {key: values if len(values) == 1 else values[[number]] for key, values in inputs.items()}
        alone = scored(one, the_candidates(given_to.data[:, [number]], number), own)
        assert alone == {key: [pytest.approx(values[number], rel=1e-12)] for key, values in among_all.items()}


@every_policy
@DETERMINISTIC
@given(given_to=candidates(), picked=st.lists(st.integers(0, 4), max_size=4))
def test_what_it_kept_of_an_instance_goes_with_it(name: str, given_to: Candidates, picked: list[int]) -> None:
    """A worker that comes back is as new as one never seen, and memory does not grow with those that left."""
    seen, fresh = policy(name), policy(name)
    for number in picked:
        for one in (seen, fresh):
            one.inputs(given_to, FACTS)
        seen.dispatched(given_to, number % len(given_to), FACTS)
    for key in given_to.keys:
        seen.forget(key)
    again, first = seen.inputs(given_to, FACTS), fresh.inputs(given_to, FACTS)
    assert {key: values.tolist() for key, values in again.items()} == {
        key: values.tolist() for key, values in first.items()
    }
