"""The clock that the simulator moves."""

import pytest

from router.domain.clock import ManualClock


@pytest.mark.parametrize("seconds", [(2.166, 6.653), tuple(0.1 * n for n in range(1, 200))])
def test_a_clock_that_is_set_shows_that_second_and_not_one_rounded_beyond_it(seconds: tuple[float, ...]) -> None:
    """Else what is due at the same second a moment later would lie in the past."""
    clock = ManualClock()
    for second in seconds:
        clock.set(second)
        assert clock.now() == second
        clock.set(second)


def test_a_clock_moves_only_forward() -> None:
    clock = ManualClock(5.0)
    with pytest.raises(ValueError, match="only moves forward"):
        clock.set(4.0)
    assert clock.now() == 5.0
