"""What a worker that broke a rule is still given: one request at a time, whatever it says of itself."""

from typing import Any, cast

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware, Load
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.placement import Outcome
from router.domain.worker import WorkerProfile
from router.fleet.breaker import OWED_FOR_A_BREACH
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.scheduling.claims import Claims
from router.sessions.events import EventHandler, ProtocolViolation
from router.sessions.session import WorkerSession
from tests.unit.router.scheduling.test_claims import claim

WORKER = WorkerId("w")


class _Pool:
    """A membership with one worker in it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.claims = Claims()
        self.membership = Membership(FleetConfig(), self.clock, self.claims)
        self.session, self.member = self.join("1")

    def join(self, incarnation: str) -> tuple[WorkerSession, Member]:
        session = WorkerSession(session_id=int(incarnation), worker_id=WORKER, clock=self.clock)
        profile = WorkerProfile(
            worker_id=WORKER,
            incarnation=incarnation,
            node="w",
            hardware=Hardware(kind="cpu", name="test"),
            engine="simulated",
        )
        return session, self.membership.join(session, profile, (), cordoned=False)

    def place(self, request_id: str, sequence: int) -> None:
        """Placed, sent, and (so the worker says) already done."""
        one = claim(request_id)
        self.claims.open(one)
        one.sequence = sequence
        self.membership.set_load(self.member, Load(last_command=sequence))

    def end(self, request_id: str) -> None:
        """Its answer came."""
        one = self.claims.of(claim(request_id).request_id)
        assert one is not None
        self.claims.close(one, Outcome())

    @property
    def seen_inflight(self) -> int:
        (view,) = self.membership.snapshot().workers
        return view.inflight.requests


async def test_a_worker_on_trial_that_claims_to_be_idle_is_not_believed() -> None:
    """Its requests count until they have ended here; a worker in good standing is taken at its word."""
    pool = _Pool()
    pool.place("before", 1)
    assert pool.seen_inflight == 0
    pool.membership.failed(WORKER, "it spoke at the wrong token", breach=True)
    assert pool.seen_inflight == 1
    pool.end("before")
    pool.clock.advance(60.0)
    pool.place("proof", 2)
    assert pool.seen_inflight == 1
    pool.end("proof")
    assert pool.seen_inflight == 0


async def test_neither_a_new_session_nor_a_new_process_wipes_a_breach_off() -> None:
    """Else a liar would only have to hang up."""
    pool = _Pool()
    pool.membership.failed(WORKER, "it lied", breach=True)
    pool.membership.leave(pool.session, "gone")
    _, member = pool.join("2")
    assert member.breaker.owed == OWED_FOR_A_BREACH
    pool.clock.advance(60.0)
    for _ in range(OWED_FOR_A_BREACH):
        assert member.breaker.probing
        pool.membership.succeeded(WORKER, pool.clock.now(), model=("m", "q8_0"))
    assert not member.breaker.probing


@pytest.mark.parametrize(
    "event",
    [
        pb.WorkerEvent(),
        pb.WorkerEvent(hello=pb.Hello()),
        pb.WorkerEvent(step=pb.Step(load=pb.Load(kv_used=float("nan")))),
    ],
    ids=["nothing", "a second hello", "a load that is no number"],
)
async def test_what_ends_a_session_for_breaking_the_protocol_is_a_breach(event: pb.WorkerEvent) -> None:
    """It may come back at once, and is on trial when it does."""
    pool = _Pool()
    unused = cast("Any", None)
    handler = EventHandler(
        session=pool.session, member=pool.member, membership=pool.membership, tell=unused, clock=pool.clock
    )
    with pytest.raises(ProtocolViolation):
        handler.handle(event)
    assert pool.member.breaker.owed == OWED_FOR_A_BREACH
