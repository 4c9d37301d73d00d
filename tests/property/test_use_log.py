"""Rule: the log gives blocks back in the order of their last use, as a dictionary kept in that order would."""

from collections import OrderedDict
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from router.scheduling.estimators import use_log
from router.scheduling.estimators.use_log import UseLog

blocks = st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("used"), blocks),
        st.tuples(st.just("gone"), blocks),
        st.tuples(st.just("pop"), st.integers(0, 8)),
        st.tuples(st.just("expire"), st.integers(0, 60)),
    ),
    max_size=60,
)


class Ordered:
    """What the log stands for."""

    def __init__(self) -> None:
        self.held: OrderedDict[int, float] = OrderedDict()

    def pop(self, most: int, until: float) -> list[int]:
        """Oldest first."""
        popped = []
        while self.held and len(popped) < most:
            block, at = next(iter(self.held.items()))
            if at > until:
                break
            del self.held[block]
            popped.append(block)
        return popped


@settings(max_examples=400, derandomize=True, deadline=None)
@given(history=actions, slack=st.sampled_from([0, 3, 1024]), run=st.sampled_from([1, 2, 1024]))
def test_it_is_an_ordered_dictionary(history: list[tuple[str, list[int] | int]], slack: int, run: int) -> None:
    """However often it is tidied, and however small its pieces."""
    log, plain = UseLog(), Ordered()
    with patch.object(use_log, "TIDY_SLACK", slack), patch.object(use_log, "MAX_RUN", run):
        for at, (what, value) in enumerate(history):
            match what, value:
                case "used", list(used):
                    for block in used:
                        if block in plain.held:
                            log.outdated(block)
                    log.used(used, float(at))
                    for block in reversed(used):
                        plain.held.pop(block, None)
                        plain.held[block] = float(at)
                case "gone", list(gone):
                    for block in gone:
                        if plain.held.pop(block, None) is not None:
                            log.outdated(block)
                case "pop", int(most):
                    assert log.pop(most) == plain.pop(most, float("inf"))
                case _, int(age):
                    assert log.pop(4, float(at - age)) == plain.pop(4, float(at - age))
            assert len(log) == len(plain.held)
        assert log.pop(100) == plain.pop(100, float("inf"))


def test_blocks_used_for_ever_do_not_pile_up() -> None:
    """A system prompt that every request repeats: what is kept of it has a bound."""
    log = UseLog()
    log.used(list(range(1000)), 0.0)
    for at in range(1000):
        for block in range(1000):
            log.outdated(block)
        log.used(list(range(1000)), float(at))
    assert len(log) == 1000
    assert log.entries < 3 * 1000 + 2 * use_log.TIDY_SLACK
    assert log.pop(2) == [999, 998]
