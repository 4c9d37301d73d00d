"""A pool's head as far as workers see it: real store, real TLS listeners, the real FleetService."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import ModelOffer
from router.config import FleetConfig, GrpcConfig, RouterConfig
from router.domain.clock import Clock, SystemClock
from router.domain.ids import ReplicaId
from router.domain.worker import WorkerState
from router.fleet.control import Control
from router.fleet.membership import Membership
from router.scheduling.claims import Claims
from router.sessions.files import FilesService
from router.sessions.listeners import Listening, listen
from router.sessions.service import FleetService
from router.trust.enrolment_offers import PoolOffers
from router.trust.security import Security, build_security
from tests.support.until import WITHIN_S, until_changed


class ShiftedClock(SystemClock):
    """The machine's clock with a wall clock that tests move."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.shift_s


@dataclass
class Head:
    """One router replica without HTTP."""

    security: Security
    membership: Membership
    service: FleetService
    control: Control
    listening: Listening
    offers: list[ModelOffer] = field(default_factory=list)  # empty: what capacity says of the pool

    @property
    def enrol_address(self) -> str:
        return self.listening.enrol_address

    @property
    def session_address(self) -> str:
        return self.listening.replica.address

    async def token(self, *, ttl_s: float = 3600.0, uses: int = 1, labels: dict[str, str] | None = None) -> str:
        made = await self.security.credentials.create_token(ttl_s=ttl_s, uses=uses, labels=labels or {})
        return str(made["token"])

    async def audit(self, event: str) -> list[str]:
        return [one.reason for one in await self.security.store.audit_lines(1000) if one.event == event]

    async def until(self, worker_id: str, *states: WorkerState, timeout_s: float = WITHIN_S) -> None:
        """Wait until the worker is in one of ``states``."""

        def there() -> bool:
            member = self.membership.member(WorkerId(worker_id))
            return member is not None and member.state in states

        await self.changes_until(there, timeout_s)

    async def changes_until(self, there: Callable[[], bool], timeout_s: float = WITHIN_S) -> None:
        """Wait for a change of the fleet that makes ``there`` true."""
        changed = asyncio.Event()
        self.membership.on_change(lambda _: changed.set())
        await until_changed(changed, there, within_s=timeout_s)


@contextlib.asynccontextmanager
async def head(
    state_dir: Path, *, tls: bool = True, clock: Clock | None = None, host: str = "127.0.0.1", **fleet: Any
) -> AsyncIterator[Head]:
    """A head on free loopback ports; the same ``state_dir`` again is the same pool after a restart."""
    config = RouterConfig(
        grpc=GrpcConfig(host=host, port=0, enrol_port=0, install_port=0, plain_loopback=not tls),
        fleet=FleetConfig(**fleet),
        state_dir=str(state_dir),
    )
    clock = clock or SystemClock()
    membership = Membership(config.fleet, clock, Claims())
    made: list[Head] = []
    security = await build_security(
        config,
        clock=clock,
        is_live=lambda one: membership.session_of(one) is not None,
        replicas=lambda: made[0].service.replicas,
        offers=lambda profile, files: made[0].offers or PoolOffers(membership.snapshot)(profile, files),
    )
    service = FleetService(
        replica_id=ReplicaId("replica-0"),
        membership=membership,
        tell=lambda _: None,
        authorizer=security.authorizer,
        enroller=security.enroller,
        config=config.fleet,
        clock=clock,
    )
    control = Control(membership=membership, service=service, intent=security.intent)
    files = FilesService(membership=membership, authorizer=security.authorizer, clock=clock)
    listening = await listen(security, service, replica_id="replica-0", membership=membership, files=files)
    service.replicas = (listening.replica,)
    made.append(Head(security, membership, service, control, listening))
    try:
        yield made[0]
    finally:
        await service.end_all("the router stops")
        await control.close()
        await listening.stop()
        await security.close()
