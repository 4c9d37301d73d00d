"""What an operator does to the fleet: drain, cordon, revoke."""

import asyncio
from dataclasses import replace
from typing import Protocol

import structlog

from protos.contract.commands import Drain, Undrain
from protos.contract.ids import WorkerId
from router.domain.worker import WorkerState
from router.errors import InvalidRequest, NotFound
from router.fleet.lifecycle import Event
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.fleet.session import SessionEnder

log = structlog.get_logger()


class Intent(Protocol):
    """Where an operator's decisions survive a restart."""

    async def set_cordoned(self, worker_id: str, cordoned: bool) -> None:
        """Remember a cordon, or lift it."""
        ...

    async def revoke(self, worker_id: str, node: str, reason: str) -> None:
        """Remember a revocation for good."""
        ...

    async def refuse_model(self, worker_id: str, node: str, model: str) -> None:
        """Remember that a worker may not serve a model."""
        ...

    async def worker_named(self, node: str) -> str | None:
        """The id of a worker that is known by this node name or id, though it may not be in the fleet now."""
        ...


class Control:
    """Implements ``router.http.server.interfaces.FleetControl``."""

    def __init__(self, *, membership: Membership, service: SessionEnder, intent: Intent) -> None:
        self._membership = membership
        self._service = service
        self._intent = intent
        self._drains: dict[WorkerId, asyncio.Task[None]] = {}

    async def drain(self, node: str, deadline_s: float) -> None:
        """Take nothing new, finish what runs; past the deadline, what is left moves to other workers. A second drain
        sets the deadline anew.
        """
        member = self._membership.find(node)
        session = self._membership.session_of(member.worker_id)
        if session is None:
            raise InvalidRequest(
                f"'{node}' is {member.state} and away: there is nothing to drain; a cordon holds when it comes back",
                param="node",
            )
        self._membership.event(member.worker_id, Event.DRAIN)
        session.send(Drain(deadline_s=deadline_s))
        self._stop_drain(member)
        self._drains[member.worker_id] = asyncio.create_task(self._finish_drain(member.worker_id, deadline_s))
        log.info("drain.started", worker=member.worker_id, node=member.profile.node, deadline_s=deadline_s)

    async def undrain(self, node: str) -> None:
        """Take work again; lifts a cordon too."""
        member = self._membership.find(node)
        self._stop_drain(member)
        if member.cordoned:
            await self._intent.set_cordoned(member.worker_id, False)
            self._membership.set_cordoned(member, False)
        if member.state is WorkerState.DRAINING:
            session = self._membership.session_of(member.worker_id)
            if session is not None:
                session.send(Undrain())
            self._membership.event(member.worker_id, Event.UNDRAIN)

    async def cordon(self, node: str) -> None:
        """Place nothing new there, across restarts; what runs goes on."""
        member = self._membership.find(node)
        await self._intent.set_cordoned(member.worker_id, True)
        self._membership.set_cordoned(member, True)

    async def revoke(self, node: str, reason: str) -> None:
        """Cut the worker off at once and for good; its streams move. It need not be here: a stolen machine is not."""
        try:
            member = self._membership.find(node)
        except NotFound:
            absent = await self._intent.worker_named(node)
            if absent is None:
                raise
            await self._intent.revoke(absent, node, reason)
            return
        await self._intent.revoke(member.worker_id, member.profile.node, reason)
        self._membership.event(member.worker_id, Event.REVOKED)
        self._service.end_worker(member.worker_id, f"revoked: {reason}", permanent=True)

    async def refuse_model(self, node: str, model: str) -> None:
        """Place nothing for this model there any more; what runs goes on. It holds across restarts."""
        try:
            member = self._membership.find(node)
        except NotFound:
            absent = await self._intent.worker_named(node)
            if absent is None:
                raise
            await self._intent.refuse_model(absent, node, model)
            return
        await self._intent.refuse_model(member.worker_id, member.profile.node, model)
        rules = member.rules
        self._membership.set_rules(member, replace(rules, refused=(*rules.refused, model)))

    async def close(self) -> None:
        """Stop waiting for drains."""
        for task in self._drains.values():
            task.cancel()
        await asyncio.gather(*self._drains.values(), return_exceptions=True)
        self._drains.clear()

    def _stop_drain(self, member: Member) -> None:
        task = self._drains.pop(member.worker_id, None)
        if task is not None:
            task.cancel()

    async def _finish_drain(self, worker_id: WorkerId, deadline_s: float) -> None:
        """The worker gives back what is left at the deadline; if it does not, take it away a little later."""
        await asyncio.sleep(deadline_s + 1.0)
        self._drains.pop(worker_id, None)
        session, member = self._membership.session_of(worker_id), self._membership.member(worker_id)
        if session is None or member is None or member.state is not WorkerState.DRAINING:
            return  # it left, or takes work again
        if session.open_attempts:
            session.lose_attempts("the drain deadline passed")
