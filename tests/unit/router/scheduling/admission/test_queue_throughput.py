"""Rule: the wait told to those who ask comes from how fast the queue went while there was one."""

import pytest

from router.scheduling.admission.queue_throughput import FORGET_S, LONGEST_S, MEMORY_S, QueueThroughput

TOKENS = 100.0


def burst(rate: QueueThroughput, start: float, *, seconds: float = 5.0, per_s: int = 10) -> float:
    """A thousand requests at once, of which so many leave a second; the wait told at the end."""
    for _ in range(1000):
        rate.queued(TOKENS, start)
    steps = int(seconds * per_s)
    for step in range(1, steps + 1):
        rate.left(TOKENS, start + step / per_s, waited=True)
    return rate.wait_s(start + seconds)


def test_a_steady_queue_is_told_its_length_over_its_pace() -> None:
    """950 are left after five seconds at ten a second."""
    assert burst(QueueThroughput(), 0.0) == pytest.approx(95.0, rel=0.15)


@pytest.mark.parametrize("idle_s", [FORGET_S / 2, 20 * FORGET_S])
def test_an_idle_spell_before_a_burst_changes_nothing(idle_s: float) -> None:
    """What passed through an empty queue before, and how long ago, says nothing of how fast a queue goes."""
    rate = QueueThroughput()
    for second in range(30):
        rate.queued(TOKENS, float(second))
        rate.left(TOKENS, float(second), waited=False)
    assert burst(rate, 30.0 + idle_s) == pytest.approx(burst(QueueThroughput(), 0.0), rel=0.05)


def test_a_queue_that_stands_still_is_told_to_wait_longer_and_longer() -> None:
    """The rate fades while nobody leaves."""
    rate = QueueThroughput()
    told = burst(rate, 0.0)
    later = [rate.wait_s(5.0 + stood_s) for stood_s in (MEMORY_S, 2 * MEMORY_S, 100 * MEMORY_S)]
    assert told < later[0] < later[1] < later[2] == LONGEST_S


def test_nothing_known_and_nobody_waiting_are_no_wait() -> None:
    """Zero, not a guess."""
    rate = QueueThroughput()
    assert rate.wait_s(0.0) == 0.0
    rate.queued(TOKENS, 0.0)
    assert rate.wait_s(0.1) == 0.0
    rate.gave_up(TOKENS)
    assert rate.empty
    assert rate.wait_s(100.0) == 0.0


@pytest.mark.parametrize(("departures", "share"), [(1, 0.40), (4, 0.65), (100, 0.95)])
def test_few_departures_are_little_evidence_of_a_slow_queue(departures: int, share: float) -> None:
    """Slots that have just filled let nobody in until the first answer ends: one departure in six seconds is no pace.
    The more were seen, the nearer the least wait is to the one expected; it is never the longer one.
    """
    rate = QueueThroughput()
    for _ in range(1000):
        rate.queued(TOKENS, 0.0)
    for number in range(1, departures + 1):
        rate.left(TOKENS, 6.0 * number / departures, waited=True)
    expected, least = rate.wait_s(6.0, 1800.0), rate.least_wait_s(6.0, 1800.0)
    assert 0.0 < least < share * expected


def test_a_long_queue_is_known_well() -> None:
    """Ten a second for four minutes: most of the wait expected is certain."""
    rate = QueueThroughput()
    for _ in range(3000):
        rate.queued(TOKENS, 0.0)
    for tenth in range(1, 2401):
        rate.left(TOKENS, tenth / 10.0, waited=True)
    assert rate.least_wait_s(240.0, 18_000.0) > 0.85 * rate.wait_s(240.0, 18_000.0)
