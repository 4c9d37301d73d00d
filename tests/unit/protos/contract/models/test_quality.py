"""What quantizations lose."""

import math

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.models.quality import BITS_PER_WEIGHT, at_least, loss

names = st.sampled_from(sorted(BITS_PER_WEIGHT))


def test_the_seeds_order_holds() -> None:
    """Full precision, AWQ, GPTQ, Q4_K_M, Q2_K, as measured on the 70B."""
    order = ["fp16", "awq", "gptq", "q4_k_m", "q2_k"]
    losses = [loss(70e9, name) for name in order]
    assert losses == sorted(losses)


@given(names, names, names)
def test_floors_are_an_order(one: str, two: str, three: str) -> None:
    """Reflexive, total and transitive."""
    assert at_least(one, one)
    assert at_least(one, two) or at_least(two, one)
    if at_least(one, two) and at_least(two, three):
        assert at_least(one, three)


@given(names)
def test_small_models_lose_no_less(name: str) -> None:
    """Under 7B parameters four bits cost more."""
    assert loss(1e9, name) >= loss(70e9, name) >= 0


def test_unknown_names_meet_no_floor() -> None:
    """Neither as what is loaded nor as the floor."""
    assert not at_least("q9_z", "q2_k")
    assert not at_least("q8_0", "q9_z")
    assert math.isinf(loss(7e9, "q9_z"))
