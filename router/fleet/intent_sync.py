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

INTERVAL_S = 1.0
"""A revocation made at another replica cuts the session here within this time."""


async def follow_decisions(
    store: Store, membership: Membership, service: SessionEnder, interval_s: float = INTERVAL_S
) -> None:
    """Apply revocations and cordons from the store, until cancelled. A store that is away is asked again."""
    while True:
        try:
            for record in await store.workers():
                apply(record, membership, service)
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
