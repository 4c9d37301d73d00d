"""Which replicas workers are told of: those that say so, and those that did a moment ago."""

import asyncio
from collections.abc import Callable

import pytest

from protos.contract.worker import Replica
from router.domain.clock import ManualClock
from router.sessions.replica_list import MISSED_S, STANDS_S, ReplicaList
from router.state.backend import StoreFailed
from router.state.store import BackedStore
from tests.support.memory_backend import MemoryBackend


class Board:
    """A store that any number of replicas share, and what each told its workers last."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.clock = ManualClock()
        self.told: dict[str, list[str]] = {}

    def replica(self, replica_id: str, address: str) -> ReplicaList:
        def tell(listed: tuple[Replica, ...]) -> None:
            self.told[replica_id] = [one.replica_id for one in listed]

        own = Replica(replica_id=replica_id, address=address)
        return ReplicaList(store=BackedStore(self.backend), own=own, clock=self.clock, tell=tell)


async def test_every_replica_tells_of_all() -> None:
    """Also of those that came after it, by the next look."""
    board = Board()
    a, b = board.replica("a", "10.0.0.1:8100"), board.replica("b", "10.0.0.2:8101")
    await a.look()
    assert board.told == {"a": ["a"]}
    await b.look()
    await a.look()
    assert board.told == {"a": ["a", "b"], "b": ["a", "b"]}


async def test_one_that_leaves_is_gone_after_a_moment_and_one_that_is_missed_stays_for_that_long() -> None:
    """A store that lost everything has no notice of anybody, and all are still there."""
    board = Board()
    a, b = board.replica("a", "10.0.0.1:8100"), board.replica("b", "10.0.0.2:8101")
    await a.look()
    await b.look()
    await a.look()
    await b.leave()
    await a.look()
    assert board.told["a"] == ["a", "b"]
    board.clock.advance(MISSED_S + 0.1)
    await a.look()
    assert board.told["a"] == ["a"]
    assert MISSED_S >= STANDS_S


async def test_a_store_that_was_away_takes_nobody_from_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: the others could not say that they are there, and are given time to."""
    board = Board()
    a, b = board.replica("a", "10.0.0.1:8100"), board.replica("b", "10.0.0.2:8101")
    await a.look()
    await b.look()
    await a.look()
    await b.leave()  # its notice expires meanwhile

    def away(*_: object) -> None:
        raise StoreFailed("redis: gone")

    with monkeypatch.context() as patched:
        patched.setattr(board.backend, "post", away)
        following = asyncio.create_task(a.follow(0.001))
        await until_soon(lambda: a._away)
        board.clock.advance(60.0)
    await until_soon(lambda: not a._away)
    following.cancel()
    assert board.told["a"] == ["a", "b"]
    await b.look()
    await a.look()
    assert board.told["a"] == ["a", "b"]


async def until_soon(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.001)


async def test_who_listens_where_another_did_has_taken_its_place() -> None:
    """A replica that was killed and started anew on its node: workers must not hold its address for the old one's."""
    board = Board()
    a, old = board.replica("a", "10.0.0.1:8100"), board.replica("b-1", "10.0.0.2:8101")
    await a.look()
    await old.look()
    await a.look()
    board.clock.advance(0.5)
    await old.leave()
    new = board.replica("b-2", "10.0.0.2:8101")
    await new.look()
    await a.look()
    assert board.told["a"] == ["a", "b-2"]
    assert "b-1" not in board.told["b-2"]
