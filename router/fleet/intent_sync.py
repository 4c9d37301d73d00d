"""Decisions made elsewhere (another replica, the command line on the store) reach this replica's sessions."""

import asyncio
from dataclasses import replace

import structlog

from protos.contract.ids import WorkerId
from router.fleet.lifecycle import Event
from router.fleet.membership import Membership
from router.fleet.session import SessionEnder
from router.state.backend import StoreFailed
from router.state.rows import WorkerRow
from router.state.store import Store

log = structlog.get_logger()

INTERVAL_S = 0.25
"""How often the store is asked whether anybody wrote: a revocation made at another replica cuts the session here in
less than a second.
"""

READ_ANYWAY_S = 1.0
"""A worker may come in while what was decided about it a moment ago is being read."""


async def follow_decisions(
    store: Store, membership: Membership, service: SessionEnder, interval_s: float = INTERVAL_S
) -> None:
    """Apply revocations and cordons from the store, until cancelled. A store that is away is asked again."""
    seen: int | None = None
    read_at = -READ_ANYWAY_S
    loop = asyncio.get_running_loop()
    while True:
        try:
            version = await store.refresh()
            if version != seen or loop.time() - read_at >= READ_ANYWAY_S:
                for record in await store.workers():
                    apply(record, membership, service)
                seen, read_at = version, loop.time()
        except StoreFailed as error:
            log.warning("decisions.not_read", reason=str(error))
        await asyncio.sleep(interval_s)


def apply(record: WorkerRow, membership: Membership, service: SessionEnder) -> None:
    """Make one worker's session agree with what the store says about it."""
    member = membership.member(WorkerId(record.worker_id))
    if member is None or not member.session_id:
        return
    if record.revoked_at is not None:
        log.info("worker.revoked_elsewhere", worker=record.worker_id, reason=record.revoked_reason)
        membership.event(member.worker_id, Event.REVOKED)
        service.end_worker(member.worker_id, f"revoked: {record.revoked_reason}", permanent=True)
        return
    if member.cordoned != record.cordoned:
        membership.set_cordoned(member, record.cordoned)
    if set(member.rules.refused) != set(record.refused_models):
        membership.set_rules(member, replace(member.rules, refused=record.refused_models))
