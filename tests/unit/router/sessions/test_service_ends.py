"""A router that is told to stop stops, whatever its workers do."""

from typing import Any, cast

import grpc
import pytest

from protos.contract.ids import WorkerId
from router.config import FleetConfig
from router.domain.clock import SystemClock
from router.domain.ids import ReplicaId
from router.fleet.membership import Membership
from router.scheduling.claims import Claims
from router.sessions import service as service_module
from router.sessions.service import FleetService
from router.sessions.session import WorkerSession


class _Refused(Exception):
    """What gRPC raises in a call that was aborted."""


class _Context:
    """Remembers how the call ended."""

    def __init__(self) -> None:
        self.status: grpc.StatusCode | None = None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code
        raise _Refused(details)


async def test_a_session_that_hangs_is_left_behind_and_no_new_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending is bounded, and a worker that dials again meanwhile is told to come back later."""
    monkeypatch.setattr(service_module, "ENDING_S", 0.05)
    clock = SystemClock()
    unused = cast("Any", None)
    service = FleetService(
        replica_id=ReplicaId("router-0"),
        membership=Membership(FleetConfig(), clock, Claims()),
        tell=unused,
        authorizer=unused,
        enroller=unused,
        config=FleetConfig(),
        clock=clock,
    )
    hanging = WorkerSession(session_id=1, worker_id=WorkerId("w"), clock=clock)
    service._sessions.add(hanging)
    await service.end_all("the router stops")
    assert hanging.ended.result() == "the router stops"
    context = _Context()
    with pytest.raises(_Refused, match="the router stops"):
        await service.Session(None, context)
    assert context.status is grpc.StatusCode.UNAVAILABLE
