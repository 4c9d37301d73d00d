"""Rule: every baseline does what its source says it does, on the source's own example or rule."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from loadtest.simulate.policies import POLICIES
from protos.contract.ids import WorkerId
from router.errors import ConfigError
from router.scheduling.placement.candidates import Candidates, InstanceKey, RequestFacts
from router.scheduling.placement.columns import COLUMNS, Column
from router.scheduling.placement.policies import build_policy
from router.scheduling.placement.policy import Policy

FACTS = RequestFacts(now=0.0, waited_s=0.0, prompt_tokens=1000, output_tokens=100.0)


def pool(names: str, **columns: list[float]) -> Candidates:
    """One candidate per letter; columns by lower-case name."""
    data = np.zeros((COLUMNS, len(names)))
    data[Column.SLOTS] = 8
    for name, values in columns.items():
        data[Column[name.upper()]] = values
    return Candidates(tuple(InstanceKey(WorkerId(one), "m", "q8_0") for one in names), tuple(names), data)


def policy_of(name: str, seed: int = 1, **parameters: Any) -> Policy:
    """A fresh one."""
    return build_policy(name, random.Random(seed), POLICIES, **parameters)


def pick(policy: Policy, candidates: Candidates, facts: RequestFacts = FACTS) -> str:
    """Choose and dispatch; the letter."""
    scores = policy.score(candidates, facts, policy.inputs(candidates, facts))
    index = int(scores.cost.argmin())
    policy.dispatched(candidates, index, facts)
    return candidates.nodes[index]


def picks(policy: Policy, candidates: Candidates, count: int) -> str:
    """That many choices in a row."""
    return "".join(pick(policy, candidates) for _ in range(count))


def test_every_policy_has_its_test_here() -> None:
    """A new baseline comes with its source's rule."""
    tested = {name.split("_", 1)[1].split("__")[0] for name in globals() if name.startswith("test_") and "__" in name}
    assert tested == set(POLICIES) - {"cost"}


def test_round_robin__takes_each_in_turn() -> None:
    """nginx, default method: a b c a b c."""
    assert picks(policy_of("round_robin"), pool("abc"), 6) == "abcabc"


def test_random__takes_each_as_often() -> None:
    """Envoy RANDOM: uniform; each share of 3,000 draws within five standard deviations of a third."""
    counts = Counter(picks(policy_of("random"), pool("abc"), 3000))
    assert all(abs(counts[one] - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for one in "abc")


def test_least_request__takes_the_fewest_and_draws_among_equals() -> None:
    """Envoy LEAST_REQUEST, nginx least_conn: 5, 1, 3 active requests go to b; equals each get some."""
    policy = policy_of("least_request")
    assert set(picks(policy, pool("abc", outstanding=[5, 1, 3]), 20)) == {"b"}
    assert set(picks(policy, pool("abc", outstanding=[2, 2, 3]), 60)) == {"a", "b"}


def test_power_of_two__takes_the_better_of_two_drawn() -> None:
    """Mitzenmacher 2001: of n workers the most loaded is never taken, the least whenever drawn: 2 / n of the time."""
    counts = Counter(picks(policy_of("power_of_two"), pool("abcde", outstanding=[4, 3, 2, 1, 0]), 5000))
    assert counts["a"] == 0
    assert counts["e"] / 5000 == pytest.approx(2 / 5, abs=0.04)
    assert counts["b"] / 5000 == pytest.approx(1 / 10, abs=0.03)


def test_power_of_two__takes_the_first_drawn_of_two_equals() -> None:
    """Each is first as often as the other."""
    counts = Counter(picks(policy_of("power_of_two"), pool("ab", outstanding=[1, 1]), 2000))
    assert counts["a"] / 2000 == pytest.approx(0.5, abs=0.06)


def test_weighted_round_robin__gives_the_sequence_of_nginx() -> None:
    """nginx commit 52327e0627f4: weights 5, 1, 1 give a a b a c a a, not a a a a a b c."""
    policy = policy_of("weighted_round_robin", weights={"a": 5.0, "b": 1.0, "c": 1.0})
    assert picks(policy, pool("abc"), 14) == "aabacaa" * 2


def test_weighted_least_request__is_the_one_with_most_weight_per_request() -> None:
    """Envoy: weight / (active + 1) ^ bias. Weight 4 with 3 active equals weight 1 with none; one less tips it."""
    weights = {"a": 4.0, "b": 1.0}
    policy = policy_of("weighted_least_request", weights=weights)
    assert pick(policy, pool("ab", outstanding=[2, 0])) == "a"
    assert pick(policy, pool("ab", outstanding=[4, 0])) == "b"
    blind = policy_of("weighted_least_request", weights=weights, active_request_bias=0.0)
    assert pick(blind, pool("ab", outstanding=[400, 0])) == "a"  # bias 0: weights alone


def test_cache_aware__balances_load_first() -> None:
    """sgl-router: max - min > 32 and max > min * 1.0001 is imbalanced, and goes to the least loaded."""
    columns = {"cached_tokens": [900.0, 0.0]}
    assert pick(policy_of("cache_aware"), pool("ab", outstanding=[33, 0], **columns)) == "b"
    assert pick(policy_of("cache_aware"), pool("ab", outstanding=[32, 0], **columns)) == "a"


def test_cache_aware__follows_a_match_above_the_threshold() -> None:
    """A match of more than cache_threshold (0.5) of the prompt; below it the smallest tree."""
    policy = policy_of("cache_aware")
    assert pick(policy, pool("ab", cached_tokens=[501.0, 0.0])) == "a"
    assert pick(policy, pool("ab", cached_tokens=[500.0, 0.0])) == "b"  # a's tree is larger by 499 tokens


def test_cache_aware__spreads_what_matches_nowhere_by_tree_size() -> None:
    """Nobody matches: each in turn, as the trees grow alike."""
    assert picks(policy_of("cache_aware"), pool("abc"), 6) == "abcabc"


def test_llmd__sums_its_scorers_with_their_weights() -> None:
    """Weights 2, 2, 3: the queue scorer gives 1 to the shortest queue, 0 to the longest; utilization 1 - usage; the
    prefix scorer the matched share. A whole queue (2) outweighs a third of a prefix (1), not a whole one (3).
    """
    policy = policy_of("llmd")
    assert pick(policy, pool("ab", waiting=[4, 0], cached_tokens=[333, 0])) == "b"
    assert pick(policy, pool("ab", waiting=[4, 0], cached_tokens=[1000, 0])) == "a"
    assert pick(policy, pool("ab", kv_used=[0.9, 0.1])) == "b"


def test_llmd__scores_equal_queues_as_one() -> None:
    """All wait alike: the queue decides nothing, and equals are drawn."""
    scores = policy_of("llmd").score(pool("ab", waiting=[3, 3]), FACTS, {"tie": np.zeros(2)})
    assert scores.terms["queue"].tolist() == [1.0, 1.0]
    assert set(picks(policy_of("llmd"), pool("ab", waiting=[3, 3]), 40)) == {"a", "b"}


def test_dynamo__comes_to_the_logits_of_its_documentation() -> None:
    """KV Cache Routing: prefill blocks 8, 5, 2 (of 10, 2, 5 and 8 cached), decode blocks 10, 5, 9; overlap weight 1
    gives logits 18, 10, 11, and worker 2 is chosen.
    """
    facts = RequestFacts(now=0.0, waited_s=0.0, prompt_tokens=160, output_tokens=10.0)
    held = [16.0 * (decode - 10) for decode in (10, 5, 9)]  # what each holds beside this request's own ten blocks
    candidates = pool("123", cached_tokens=[32, 80, 128], context_held=held)
    policy = policy_of("dynamo")
    scores = policy.score(candidates, facts, {"draw": np.full(3, 0.5)})
    assert scores.terms["logit"].tolist() == pytest.approx([18.0, 10.0, 11.0])
    assert pick(policy, candidates, facts) == "2"


def test_dynamo__samples_the_softmax_of_its_normalised_logits() -> None:
    """Temperature 1: logits 0 and 1 after normalisation are taken 1 : e^-1."""
    facts = RequestFacts(now=0.0, waited_s=0.0, prompt_tokens=160, output_tokens=10.0)
    policy = policy_of("dynamo", temperature=1.0)
    counts = Counter(pick(policy, pool("ab", cached_tokens=[160, 0]), facts) for _ in range(4000))
    assert counts["b"] / counts["a"] == pytest.approx(np.exp(-1.0), abs=0.06)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_an_unknown_parameter_is_refused_by_name(name: str) -> None:
    """Sweeps and configuration files are not silently ignored."""
    with pytest.raises(ConfigError, match="no_such_thing"):
        policy_of(name, no_such_thing=1.0)
