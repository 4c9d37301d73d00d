"""One dispatch of one request to one worker: a mailbox between the session's reader and the request's reader.

The session's reader never waits for a slow client: it drops events here and goes on. The mailbox is bounded by
the request's own token budget, because a worker that sends more than it was asked for is cut off.
"""

import asyncio

from router.domain.ids import RequestId
from router.domain.placement import Placed
from router.domain.stream import AttemptEvent, Delta, SessionLost
from router.fleet.session import AttemptKey, WorkerSession


class Attempt:
    """Collects an attempt's events. ``take`` returns everything that waits, at once."""

    def __init__(
        self, *, request_id: RequestId, number: int, placed: Placed, session: WorkerSession, token_budget: int
    ) -> None:
        self.key: AttemptKey = (request_id, number)
        self.placed = placed
        self.started_at = 0.0
        self.first_token_at: float | None = None
        self._session = session
        self._token_budget = token_budget
        self._tokens = 0
        self._events: list[AttemptEvent] = []
        self._wake = asyncio.Event()
        self._ended = False

    def hear(self, event: AttemptEvent) -> None:
        """Called by the session's reader. Checks that deltas follow one another and stay within the budget."""
        if isinstance(event, Delta):
            fault = self._fault(event)
            if fault:
                self._session.close(self.key)
                event = SessionLost(request_id=event.request_id, attempt=event.attempt, reason=fault)
            else:
                self._tokens += event.token_count
        self._events.append(event)
        self._wake.set()

    def expire(self) -> None:
        """The request's deadline passed: wake the reader with nothing in hand."""
        self._wake.set()

    async def take(self) -> list[AttemptEvent]:
        """Wait for events and take all of them; an empty list means the deadline passed."""
        await self._wake.wait()
        self._wake.clear()
        events, self._events = self._events, []
        return events

    def abort(self) -> None:
        """Stop the generation at the worker. Idempotent; nothing is sent once the attempt has ended."""
        if not self._ended:
            self._ended = True
            self._session.abort(self.key)

    def end(self) -> None:
        """The attempt is over; its session need not deliver anything more."""
        self._ended = True
        self._session.close(self.key)

    def _fault(self, delta: Delta) -> str:
        if delta.position != self._tokens:
            return f"the worker spoke at token {delta.position}, expected {self._tokens}"
        if self._tokens + delta.token_count > self._token_budget:
            return f"the worker sent more than the {self._token_budget} tokens it was asked for"
        return ""
