"""A router that stood still does not blame its workers for the silence."""

import asyncio
import contextlib
from typing import Any, cast

import pytest

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.ids import ReplicaId
from router.domain.worker import WorkerProfile
from router.fleet.membership import Membership
from router.scheduling.claims import Claims
from router.sessions import service as service_module
from router.sessions.service import FleetService
from router.sessions.session import WorkerSession
from router.sessions.watchdog import LATE_S, held_up

CONFIG = FleetConfig()


def test_a_look_that_comes_much_too_late_is_told_from_one_that_comes_a_little_late() -> None:
    assert not held_up(CONFIG.ping_interval_s + 0.9 * LATE_S, CONFIG.ping_interval_s)
    assert held_up(CONFIG.ping_interval_s + 1.1 * LATE_S, CONFIG.ping_interval_s)


@pytest.mark.parametrize(
    ("naps", "heard_after", "lives"),
    [
        ([4.0, 0.5], 1, True),  # the router stood still, then read what the worker had said all along
        ([4.0, 0.5], None, False),  # it stood still, and the worker is silent all the same
        ([0.5] * 6, None, False),  # it never stood still
    ],
)
async def test_silence_is_judged_only_by_a_router_that_was_awake(
    naps: list[float], heard_after: int | None, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look after a standstill leaves the session alone; the next one judges as ever."""
    clock, unused = ManualClock(), cast("Any", None)
    membership = Membership(CONFIG, clock, Claims())
    session = WorkerSession(session_id=1, worker_id=WorkerId("w"), clock=clock)
    profile = WorkerProfile(
        worker_id=WorkerId("w"),
        incarnation="1",
        node="w",
        hardware=Hardware(kind="cpu", name="test"),
        engine="simulated",
    )
    member = membership.join(session, profile, (), cordoned=False)
    service = FleetService(
        replica_id=ReplicaId("router-0"),
        membership=membership,
        tell=unused,
        authorizer=unused,
        enroller=unused,
        config=CONFIG,
        clock=clock,
    )
    slept = 0

    async def sleep(_: float) -> None:
        nonlocal slept
        if slept == heard_after:
            session.heard()
        if slept == len(naps):
            raise asyncio.CancelledError
        clock.advance(naps[slept])
        slept += 1

    monkeypatch.setattr(service_module.asyncio, "sleep", sleep)
    with contextlib.suppress(asyncio.CancelledError):
        await service._watch(session, member)
    assert session.ended.done() is not lives
