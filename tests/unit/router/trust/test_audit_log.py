"""Refusals are kept up to a rate, the rest counted; what operators decide is always kept."""

from router.domain.clock import ManualClock
from router.state.store import BackedStore
from router.trust.audit_log import REFUSALS_PER_MINUTE, AuditLog
from tests.support.memory_backend import MemoryBackend


async def test_a_flood_of_refusals_is_counted_and_not_kept() -> None:
    """Each would be a write to the disk, and anyone who can connect can cause it."""
    clock, store = ManualClock(), BackedStore(MemoryBackend())
    log = AuditLog(store, clock)
    for number in range(REFUSALS_PER_MINUTE + 500):
        await log.note("join.refused", f"n{number}", "no token")
    await log.note("join.admitted", "m", "node m")
    kept = await store.audit_lines(10_000)
    assert sum(line.event == "join.refused" for line in kept) == REFUSALS_PER_MINUTE
    assert sum(line.event == "join.admitted" for line in kept) == 1
    clock.advance(1.0)
    await log.note("session.refused", "w", "revoked")
    (last,) = (line for line in await store.audit_lines(10_000) if line.event == "session.refused")
    assert "and 500 refusals before it" in last.reason
    await store.close()
