"""Rule: one session to each replica there is, found again from the seeds when all are gone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from protos.contract.worker import Replica
from tests.support.until import until_async
from workers.session.session import Session, SessionOwner
from workers.session.session_pool import MAX_SESSIONS, SessionPool


class Line:
    """A session that is opened and closed by hand."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.replica_id = ""
        self.is_open = False
        self.ended = asyncio.Event()

    async def run(self) -> None:
        await self.ended.wait()

    async def close(self, flush_s: float = 2.0) -> None:
        self.is_open = False
        self.ended.set()


class Pool:
    """A session pool and its lines by address."""

    def __init__(self, *seeds: str) -> None:
        self.lines: dict[str, Line] = {}
        self.pool = SessionPool(seeds, self._open)

    def _open(self, address: str, owner: SessionOwner) -> Session:
        self.lines[address] = Line(address)
        return cast("Session", self.lines[address])

    def begin(self) -> None:
        self.pool.open_all(cast("SessionOwner", object()))

    def welcome(self, address: str, replica_id: str) -> bool:
        line = self.lines[address]
        line.replica_id, line.is_open = replica_id, True
        return self.pool.welcomed(cast("Session", line))

    def follow(self, **replicas: str) -> None:
        self.pool.follow(tuple(Replica(replica_id=name, address=address) for name, address in replicas.items()))

    @property
    def addresses(self) -> list[str]:
        return [one.address for one in self.pool]


@pytest.fixture
async def made() -> AsyncIterator[Any]:
    pools: list[Pool] = []

    def make(*seeds: str) -> Pool:
        pools.append(Pool(*seeds))
        return pools[-1]

    yield make
    for one in pools:
        await one.pool.close(flush_s=0.0)
        assert len(one.pool) == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("session ", "closing "))]


async def test_nothing_is_dialled_before_there_is_an_owner_nor_after_the_end(made: Any) -> None:
    """Addresses learned before are dialled then, each once."""
    pool = made("a:1")
    pool.pool.add_seeds(["b:1", "a:1"])
    assert pool.addresses == []
    pool.begin()
    assert pool.addresses == ["a:1", "b:1"]
    await pool.pool.close(flush_s=0.0)
    pool.pool.broken()
    assert pool.addresses == []


async def test_sessions_follow_the_list_of_replicas(made: Any) -> None:
    """New ones are dialled, those that left are closed; an empty list says nothing."""
    pool = made("a:1")
    pool.begin()
    pool.welcome("a:1", "a")
    pool.follow(a="a:1", b="b:1")
    pool.welcome("b:1", "b")
    pool.pool.follow(())
    assert pool.addresses == ["a:1", "b:1"]
    pool.follow(b="b:1")
    assert pool.addresses == ["b:1"]
    await pool.lines["a:1"].ended.wait()


async def test_a_replica_reached_by_two_names_keeps_one_session(made: Any) -> None:
    """The second welcome closes its own session; the list does not dial a known replica by its other name."""
    pool = made("localhost:1", "127.0.0.1:1")
    pool.begin()
    assert pool.welcome("localhost:1", "a")
    assert not pool.welcome("127.0.0.1:1", "a")
    pool.follow(a="127.0.0.1:1")
    assert pool.addresses == ["localhost:1"]


async def test_with_no_session_open_the_seeds_are_dialled_again(made: Any) -> None:
    """A worker that lost every replica finds back without help."""
    pool = made("a:1")
    pool.begin()
    pool.welcome("a:1", "a")
    pool.follow(b="b:1")
    pool.welcome("b:1", "b")
    pool.pool.broken()
    assert pool.addresses == ["b:1"], "one is open still"
    pool.lines["b:1"].is_open = False
    pool.pool.broken()
    assert pool.addresses == ["b:1", "a:1"]


async def test_a_list_too_long_is_cut(made: Any) -> None:
    """It is a mistake or an attack."""
    pool = made("a:1")
    pool.begin()
    pool.follow(**{f"r{number}": f"host:{number}" for number in range(2 * MAX_SESSIONS)})
    assert len(pool.pool) == MAX_SESSIONS


async def test_a_worker_that_no_router_has_says_so_and_when_one_has_it_again(made: Any) -> None:
    """Once at first, then ever more seldom."""
    pool = made("a:1")
    pool.begin()
    with capture_logs() as said:
        watch = asyncio.create_task(pool.pool.watch(alone_s=0.05, every_s=0.01))
        await until_async(lambda: any(one["event"] == "worker.unhealthy" for one in said))
        pool.welcome("a:1", "r")
        await until_async(lambda: any(one["event"] == "worker.healthy" for one in said))
        watch.cancel()
    first = next(one for one in said if one["event"] == "worker.unhealthy")
    assert first["routers"] == ["a:1"]
    assert "no router has this worker" in first["reason"]


async def test_a_session_that_ends_by_itself_is_opened_again(made: Any) -> None:
    """Whatever ended it: the seeds are dialled, as long as none is open."""
    pool = made("a:1")
    pool.begin()
    first = pool.lines["a:1"]
    first.ended.set()
    await until_async(lambda: pool.lines["a:1"] is not first)
    assert pool.addresses == ["a:1"]
