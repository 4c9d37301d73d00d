"""Whatever anybody causes, so many lines and no more are written of it, and every line left out is counted."""

from collections import Counter

import structlog
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.log_limit import MAX_BUCKETS, LogLimit

OF_ONE, OF_EVENT = 6.0, 20.0


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    lines=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["", "w1", "w2", "w3"]), st.floats(0.0, 8.0)),
        max_size=200,
    )
)
def test_no_more_than_the_bounds_and_each_line_left_out_is_counted(lines: list[tuple[str, str, float]]) -> None:
    """A bucket's worth at once, then what refills."""
    clock = _Clock()
    limit = LogLimit(clock, of_one=OF_ONE, of_event=OF_EVENT)
    written: Counter[tuple[str, str]] = Counter()
    owed: Counter[tuple[str, str]] = Counter()
    for event, worker, pause in lines:
        clock.now += pause
        try:
            line = limit(None, "info", {"event": event, "worker": worker})
        except structlog.DropEvent:
            owed[event, worker] += 1
            continue
        written[event, worker] += 1
        assert line.get("suppressed", 0) == owed.pop((event, worker), 0)
    minutes = clock.now / 60.0
    for event in ("a", "b"):
        assert sum(count for (one, _), count in written.items() if one == event) <= OF_EVENT * (1 + minutes) + 1
    for (_, worker), count in written.items():
        if worker:
            assert count <= OF_ONE * (1 + minutes) + 1


def test_what_is_said_of_others_is_not_drowned_by_one() -> None:
    """A worker that drains and wakes in turn wrote 23 MB in five seconds."""
    limit = LogLimit(_Clock())
    passed = 0
    for _ in range(100_000):
        try:
            limit(None, "info", {"event": "worker.state", "worker": "noisy"})
            passed += 1
        except structlog.DropEvent:
            pass
    assert passed == 60
    assert limit(None, "info", {"event": "worker.state", "worker": "quiet"})["worker"] == "quiet"


def test_a_peer_is_the_same_whatever_port_it_comes_from() -> None:
    """Every refused attempt to join is a connection of its own."""
    limit = LogLimit(_Clock(), of_one=1.0)
    limit(None, "warning", {"event": "join.refused", "peer": "ipv4:10.0.0.1:1"})
    for port in range(2, 10):
        try:
            limit(None, "warning", {"event": "join.refused", "peer": f"ipv4:10.0.0.1:{port}"})
        except structlog.DropEvent:
            continue
        raise AssertionError("the same peer passed twice")
    limit(None, "warning", {"event": "join.refused", "peer": "ipv4:10.0.0.2:1"})


def test_what_is_remembered_is_bounded_and_debug_passes() -> None:
    """Subjects are anybody's words; who asks for debug lines gets them."""
    limit = LogLimit(_Clock(), of_event=1e9)
    for number in range(2 * MAX_BUCKETS):
        limit(None, "info", {"event": "x", "subject": str(number)})
    assert len(limit._buckets) <= MAX_BUCKETS
    for _ in range(1000):
        limit(None, "debug", {"event": "dispatch.started", "worker": "w"})
