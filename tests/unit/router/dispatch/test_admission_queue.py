"""Whoever waits gets the scheduler's word, and nobody's claim stays behind when he leaves."""

import asyncio

import pytest

from protos.contract.ids import RequestId, WorkerId
from router.dispatch.admission_queue import AdmissionQueue
from router.domain.request import ModelRef
from router.errors import UnknownModel
from router.scheduling.events import Arrived, ClientLeft, Send
from tests.support.fleets import request
from tests.support.scheduling import Pool

pytestmark = pytest.mark.holds_claims

R1 = RequestId("r1")


def queue_of(pool: Pool) -> AdmissionQueue:
    """As ``router.app`` wires it."""
    queue = AdmissionQueue(scheduler=pool.scheduler, clock=pool.clock)
    pool.membership.on_change(queue.fleet_changed)
    return queue


async def test_a_request_that_finds_room_is_told_where_to_go() -> None:
    """Within the call."""
    send = await queue_of(Pool("a")).ask(Arrived(request(1)), R1)
    assert isinstance(send, Send)
    assert send.placed.node == "a"


async def test_a_refusal_is_raised() -> None:
    """As the error of the client's."""
    queue = queue_of(Pool("a"))
    with pytest.raises(UnknownModel):
        await queue.ask(Arrived(request(1, model=ModelRef(name="zz"))), R1)
    assert len(queue) == 0


async def test_a_change_of_the_fleet_lets_go_who_waits() -> None:
    """Without anybody asking again."""
    pool = Pool()
    queue = queue_of(pool)
    pool.join("late")
    pool.load("late", running=8, waiting=4)
    waiting = asyncio.create_task(queue.ask(Arrived(request(1)), R1))
    await asyncio.sleep(0)
    assert not waiting.done()
    member = pool.membership.member(WorkerId("late"))
    assert member is not None
    pool.membership.set_load(member, type(member.load)(last_command=1 << 40))
    assert (await waiting).placed.node == "late"


@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_request_cancelled_in_the_tick_of_its_placement_gives_it_back(granted_first: bool) -> None:
    """Whichever of the two came first."""
    pool = Pool("a")
    queue = queue_of(pool)
    pool.load("a", running=8, waiting=4)

    async def client() -> None:
        try:
            await queue.ask(Arrived(request(1)), R1)
        except BaseException:
            queue.tell(ClientLeft(R1))
            raise

    waiting = asyncio.create_task(client())
    await asyncio.sleep(0)

    def grant() -> None:
        for one in pool.load("a"):
            queue._carry_out(one)

    steps = [grant, waiting.cancel]
    for step in steps if granted_first else reversed(steps):
        step()
    assert len(pool.claims) == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(pool.claims) == len(pool.scheduler) == len(queue) == 0
