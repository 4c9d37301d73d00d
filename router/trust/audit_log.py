"""What may be asked about later: who was let in, who was turned away and why. Never holds a secret."""

import structlog

from router.domain.clock import Clock
from router.state.backend import StoreFailed
from router.state.rows import AuditLine
from router.state.store import Store

log = structlog.get_logger()


class AuditLog:
    """Notes decisions that stand whether or not they can be kept."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def note(self, event: str, subject: str, reason: str, *, peer: str = "") -> None:
        """Keep one line; when the store is away, the log has it."""
        line = AuditLine(at=self._clock.wall(), event=event, subject=subject, peer=peer, reason=reason)
        try:
            await self._store.audit(line)
        except StoreFailed as error:
            log.error("audit.failed", event_not_kept=event, subject=subject, reason=str(error))
