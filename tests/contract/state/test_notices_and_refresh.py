"""What replicas tell each other through the store, and how they hear of a write; the same over every backend."""

import time
from collections.abc import Callable

import pytest

from router.state.backend import Backend
from tests.support.until import until

Make = Callable[[], Backend]


def test_refresh_tells_of_writes_and_of_nothing_else(make_backend: Make) -> None:
    """Own writes and others'; reading and notices change nothing."""
    one, other = make_backend(), make_backend()
    seen = one.refresh()
    assert one.refresh() == seen
    one.transact(lambda tx: tx.get("kind", "a"))
    one.post("board", "k", b"v", 5.0)
    assert one.refresh() == seen
    one.transact(lambda tx: tx.put("kind", "a", b'"1"'))
    mine = one.refresh()
    assert mine != seen
    other.transact(lambda tx: tx.put("kind", "b", b'"2"'))
    assert one.refresh() != mine
    one.close()
    if other is not one:
        other.close()


def test_a_notice_is_seen_by_all_until_it_expires_or_is_withdrawn(make_backend: Make) -> None:
    """Boards are apart; posting again renews."""
    one, other = make_backend(), make_backend()
    one.post("replica", "a", b"1", 0.01)
    one.post("replica", "b", b"2", 60.0)
    one.post("replica", "b", b"3", 60.0)
    one.post("ask", "b", b"4", 60.0)
    until(lambda: other.posts("replica") == [("b", b"3")], "the short one expires")
    other.withdraw("replica", "b")
    other.withdraw("replica", "never-there")
    assert one.posts("replica") == []
    assert one.posts("ask") == [("b", b"4")]
    one.close()
    if other is not one:
        other.close()


def test_a_notice_outlives_who_wrote_it_by_its_time_only(make_backend: Make) -> None:
    """A replica that dies says no goodbye."""
    backend = make_backend()
    backend.post("replica", "a", b"1", 0.3)
    began = time.monotonic()
    until(lambda: not backend.posts("replica"), "it expires")
    assert time.monotonic() - began > 0.2
    backend.close()


def test_a_bucket_is_shared_refills_and_goes_into_debt_up_to_a_bound(make_backend: Make) -> None:
    """What one replica spends the other lacks; taking nothing tells the level. A negative amount gives back."""
    one, other = make_backend(), make_backend()
    seen = one.refresh()
    assert one.spend("k:tokens", 0.0, 6.0, 3600.0) == 6.0
    assert one.spend("k:tokens", 4.0, 6.0, 3600.0) == pytest.approx(2.0, abs=0.1)
    assert other.spend("k:tokens", 3.0, 6.0, 3600.0) == pytest.approx(-1.0, abs=0.2)
    assert one.spend("k:tokens", -2.0, 6.0, 3600.0) == pytest.approx(1.0, abs=0.3)
    assert other.spend("other:tokens", 1.0, 6.0, 3600.0) == 5.0
    assert one.spend("k:tokens", 10.0**9, 6.0, 10.0) == pytest.approx(-1.0, abs=0.1)
    assert one.spend("fast", 60_000.0, 60_000.0, 3600.0) == 0.0
    until(lambda: other.spend("fast", 0.0, 60_000.0, 3600.0) > 5.0, "it refills")
    assert one.refresh() == seen
    one.close()
    if other is not one:
        other.close()
