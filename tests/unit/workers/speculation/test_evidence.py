"""Rule: what was accepted says what will be; a request's own experience soon outweighs its kind's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.speculation.evidence import LEAST_WORTH, PRIOR, STEPS, Evidence, class_of


@given(match=st.integers(1, 200))
def test_every_agreement_has_a_class(match: int) -> None:
    """The classes are in order."""
    index = class_of(match)
    assert match <= STEPS[index] or index == len(STEPS) - 1
    assert index == 0 or match > STEPS[index - 1]


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("match", [3, 10, 64])
def test_it_converges(truth: float, match: int) -> None:
    """Two hundred proposals."""
    seen = Evidence()
    for number in range(400):
        seen.tell(match, accepted=(number * 0.618) % 1.0 < truth)
    assert seen.chance(match) == pytest.approx(truth, abs=0.08)


def test_nothing_known_is_the_prior() -> None:
    """And what a long agreement did says nothing of a short one."""
    seen = Evidence()
    assert seen.by_class() == pytest.approx(PRIOR)
    for _ in range(50):
        seen.tell(30, accepted=True)
    assert seen.chance(3) == pytest.approx(PRIOR[class_of(3)])


def test_a_longer_agreement_is_as_good_a_sign_as_a_shorter_one() -> None:
    """Until it was seen to be worse."""
    seen = Evidence()
    for _ in range(80):
        seen.tell(6, accepted=True)
    assert min(seen.chance(60), seen.chance(6)) > 0.9
    for _ in range(40):
        seen.tell(60, accepted=False)
    assert seen.chance(60) < 0.2 < 0.9 < seen.chance(6)


def test_a_request_of_another_kind_is_soon_known() -> None:
    """The model's experience is prose; a request that quotes is soon believed, and teaches the model."""
    model = Evidence()
    for _ in range(300):
        model.tell(5, accepted=False)
    request = Evidence(broader=model)
    assert request.chance(5) < 0.1
    before = model.chance(5)
    for _ in range(12):
        request.tell(5, accepted=True)
    assert request.chance(5) > 0.7
    assert model.chance(5) > before


def test_chances_along_a_proposal_grow_with_the_agreement() -> None:
    """Once the first is accepted, the text agrees over one token more; what is hardly ever reached is cut off."""
    seen = Evidence()
    chances = seen.chances(10, 30)
    assert chances == tuple(seen.chance(10 + done) for done in range(len(chances)))
    assert 1 <= len(chances) < 30
    assert math.prod(chances) >= LEAST_WORTH
    assert math.prod(chances) * seen.chance(10 + len(chances)) < LEAST_WORTH
