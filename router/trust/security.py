"""Everything about who may come in, put together from the configuration: one call for the composition root.

    security = await build_security(config, clock=…, is_live=…, replicas=lambda: service.replicas, offers=…)
    service  = FleetService(…, authorizer=security.authorizer, enroller=security.enroller, …)
    control  = Control(…, intent=security.intent)
    listening = await listen(security, service, replica_id=…, rank=…, membership=…)  # Listening: ports, replica, stop()
    service.replicas = (listening.replica,)                              # and those of its siblings
    …
    await listening.stop(); await security.close()

Beside it, for HTTP: ``security.credentials``, and from ``router.http.auth.authenticator``
``await refuse_exposed_without_keys(security.store, host)`` before anything listens, then
``StoredAuthenticator(store=security.store, clock=…, host=host)``.

Plain loopback (``grpc.plain_loopback`` and a loopback ``grpc.host``) lets any worker of this machine in; everything
else is TLS with certificates of the pool's CA.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from protos.contract.addresses import join_host_port
from protos.contract.ids import WorkerId
from protos.contract.worker import Replica
from router.config import RouterConfig
from router.domain.clock import Clock, SystemClock
from router.fleet.control import Intent
from router.state.location import open_store
from router.state.store import Store
from router.trust.audit_log import AuditLog
from router.trust.authority import Authority, new_authority
from router.trust.credentials import StoredCredentials
from router.trust.enroller import Enroller, Offers, no_offers
from router.trust.enrolment import TokenEnroller
from router.trust.exposure import advertised_host, uses_tls
from router.trust.loopback_mode import OpenAuthorizer, OpenEnroller
from router.trust.session_authorizer import SessionAuthorizer
from router.trust.stored_authorizer import AuditedAuthorizer, CertificateAuthorizer, LoopbackAuthorizer, StoredIntent

ENROL_ADDRESS = "enrol_address"
"""The fact in the store that tells ``allsorts token create`` what joiners dial."""


@dataclass(slots=True, kw_only=True)
class Security:
    """The parts, ready to be handed out. Owns the store."""

    config: RouterConfig
    clock: Clock
    store: Store
    authority: Authority | None  # None: a plain loopback pool
    authorizer: SessionAuthorizer
    enroller: Enroller
    intent: Intent
    credentials: StoredCredentials
    enrol_address: str = ""
    following: tuple[asyncio.Task[None], ...] = ()

    async def reached_at(self, enrol_address: str) -> None:
        """Note where joiners dial, here and in the store."""
        self.enrol_address = enrol_address
        await self.store.remember(ENROL_ADDRESS, enrol_address)

    def until_closed(self, *work: Coroutine[Any, Any, None]) -> None:
        """Run this beside the store for as long as it is open."""
        self.following = (*self.following, *(asyncio.create_task(one) for one in work))

    async def close(self) -> None:
        """Let go of the store."""
        for task in self.following:
            task.cancel()
        await asyncio.gather(*self.following, return_exceptions=True)
        await self.store.close()


async def build_security(
    config: RouterConfig,
    *,
    replicas: Callable[[], Iterable[Replica]],
    is_live: Callable[[WorkerId], bool] = lambda _: False,
    offers: Offers = no_offers,
    clock: Clock | None = None,
    store: Store | None = None,
) -> Security:
    """Open the store (``config.state_dir``) and build what hangs on it. Raises ConfigError, StoreFailed."""
    clock = clock or SystemClock()
    store = store or open_store(config.state_dir)
    authority = await load_authority(store, clock) if uses_tls(config.grpc) else None
    authorizer: SessionAuthorizer
    enroller: Enroller
    if authority is None:
        open_authorizer = OpenAuthorizer(is_live=is_live)
        authorizer = LoopbackAuthorizer(store, open_authorizer)
        enroller = OpenEnroller(open_authorizer, replicas=replicas, offers=offers)
    else:
        authorizer = CertificateAuthorizer(store)
        enroller = TokenEnroller(store=store, authority=authority, clock=clock, replicas=replicas, offers=offers)
    security = Security(
        config=config,
        clock=clock,
        store=store,
        authority=authority,
        authorizer=AuditedAuthorizer(authorizer, AuditLog(store, clock)),
        enroller=enroller,
        intent=StoredIntent(store, clock),
        credentials=StoredCredentials(
            store=store,
            clock=clock,
            fingerprint=None if authority is None else authority.fingerprint,
            enrol_address=lambda: security.enrol_address,
        ),
        enrol_address=join_host_port(advertised_host(config.grpc), config.grpc.enrol_port),
    )
    return security


async def load_authority(store: Store, clock: Clock) -> Authority:
    """The pool's CA, made at the first start."""
    return Authority(await store.authority(new_authority(clock.wall())))
