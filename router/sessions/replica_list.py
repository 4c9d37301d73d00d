"""Which router replicas there are, and where workers reach each: told through the store, followed by every replica.

A replica says where it is as long as it lives; one that says nothing any more is gone. Addresses are what replicas
really listen on, whatever machine they were put on. Workers are told when the list changes, and dial who is new.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from protos.contract.worker import Replica
from router.domain.clock import Clock
from router.state.backend import StoreFailed
from router.state.store import Store

log = structlog.get_logger()

BOARD = "replica"
EVERY_S = 0.5
STANDS_S = 4.0
"""How long a replica counts that says nothing any more: several times what it may be held up."""

MISSED_S = 4.0
"""How long a replica counts whose notice is gone: a store that lost everything has none, and all are still there."""


class ReplicaList:
    """The list as this replica knows it; ``tell`` hears of every change."""

    def __init__(
        self, *, store: Store, own: Replica, clock: Clock, tell: Callable[[tuple[Replica, ...]], None]
    ) -> None:
        self._store = store
        self._own = own
        self._clock = clock
        self._tell = tell
        self._seen: dict[str, tuple[Replica, float]] = {}
        self._told: tuple[Replica, ...] = ()
        self._away = False

    async def follow(self, every_s: float = EVERY_S) -> None:
        """Say and hear, until cancelled. While the store is away everybody stays."""
        while True:
            try:
                await self.look()
            except StoreFailed as error:
                self._away = True
                log.warning("replicas.not_read", reason=str(error))
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Once. Raises StoreFailed."""
        said = msgspec.json.encode([self._own.replica_id, self._own.address])
        await self._store.post(BOARD, self._own.replica_id, said, STANDS_S)
        now = self._clock.now()
        if self._away:  # nobody could be heard: from now on they can be missed
            self._away = False
            self._seen = {one: (replica, now) for one, (replica, _) in self._seen.items()}
        for replica_id, value in await self._store.posts(BOARD):
            _, address = msgspec.json.decode(value, type=tuple[str, str])
            self._seen[replica_id] = (Replica(replica_id=replica_id, address=address), now)
        self._seen = {one: (replica, at) for one, (replica, at) in self._seen.items() if now - at < MISSED_S}
        by_address: dict[str, Replica] = {}
        for replica, _ in sorted(self._seen.values(), key=lambda one: one[1]):
            by_address[replica.address] = replica  # whoever listens where another did has taken its place
        by_address[self._own.address] = self._own
        listed = tuple(sorted(by_address.values(), key=lambda replica: replica.replica_id))
        if listed != self._told:
            self._told = listed
            log.info("replicas.changed", replicas=[f"{one.replica_id} {one.address}" for one in listed])
            self._tell(listed)

    async def leave(self) -> None:
        """The replica stops: the others' workers need not find out by themselves."""
        try:
            await self._store.withdraw(BOARD, self._own.replica_id)
        except StoreFailed as error:
            log.warning("replica.not_withdrawn", reason=str(error))
