"""What may be asked about later: who was let in, who was turned away and why. Never holds a secret."""

import structlog

from router.domain.clock import Clock
from router.domain.token_bucket import TokenBucket
from router.state.backend import StoreFailed
from router.state.rows import AuditLine
from router.state.store import Store

log = structlog.get_logger()


REFUSALS_PER_MINUTE = 60
"""As many at once, too, after a quiet minute."""


class AuditLog:
    """Notes decisions that stand whether or not they can be kept."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._refusals = TokenBucket.full(REFUSALS_PER_MINUTE, clock.now())
        self._left_out = 0

    async def note(self, event: str, subject: str, reason: str, *, peer: str = "") -> None:
        """Keep one line; when the store is away, the log has it. Of refusals so many a minute: anyone who can connect
        can cause them, and each is a write to the disk. Those left out are counted in the next.
        """
        if event.endswith(".refused"):
            self._refusals.refill(self._clock.now())
            if self._refusals.wait_s(1) > 0.0:
                self._left_out += 1
                return
            self._refusals.spend(1)
            if self._left_out:
                reason = f"{reason} (and {self._left_out} refusals before it that were not kept)"
                self._left_out = 0
        line = AuditLine(at=self._clock.wall(), event=event, subject=subject, peer=peer, reason=reason)
        try:
            await self._store.audit(line)
        except StoreFailed as error:
            log.error("audit.failed", event_not_kept=event, subject=subject, reason=str(error))
