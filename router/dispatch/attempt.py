"""One dispatch of one request to one worker: a mailbox between the session's reader and the request's reader.

The session's reader never waits for a slow client: it drops events here and goes on. The mailbox is bounded by
what the request may be answered with (``answer_bounds``), because a worker that sends more is cut off, and all
mailboxes together by ``answer_memory``.
"""

import asyncio
from collections.abc import Callable

from protos.contract.ids import AttemptKey, RequestId
from protos.contract.stream import Accepted, Delta
from router.dispatch.answer_bounds import DELTA_BYTES, AnswerBounds, characters_of, weight_of
from router.dispatch.answer_memory import AnswerAccount
from router.domain.placement import Placed
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import AllsortsError
from router.fleet.session import Session


class Attempt:
    """Collects an attempt's events. ``drain`` returns everything that waits, at once."""

    def __init__(
        self,
        *,
        request_id: RequestId,
        number: int,
        placed: Placed,
        session: Session,
        bounds: AnswerBounds,
        account: AnswerAccount,
        conditional: bool = False,
    ) -> None:
        self.key: AttemptKey = (request_id, number)
        self.placed = placed
        self.conditional = conditional  # sent with a condition, which the worker may find broken
        self.sequence = 0  # its command's number on the session
        self.started_at = 0.0
        self.first_token_at: float | None = None
        self._session = session
        self._bounds = bounds
        self._account = account
        self._mailbox_bytes = 0  # what the waiting events weigh by themselves
        self._waiting_bytes = 0  # and their output, which goes on to be kept once they were read
        self._failed: AllsortsError | None = None
        self._events: list[AttemptEvent] = []
        self._wake = asyncio.Event()
        self._passes: Callable[[Delta], bool] | None = None  # the short way, while nothing waits and somebody reads
        self._ended = False
        account.cut = self._cut

    def on_event(self, event: AttemptEvent) -> None:
        """Called by the session's reader. Checks that deltas follow one another and stay within the bounds."""
        fault = ""
        if isinstance(event, Delta):
            weight = weight_of(event)
            if self._goes_the_short_way(event, weight):
                return
            fault = self._bounds.take(event, weight)
            if not fault and not (event.token_count or event.finish_reason or characters_of(event)):
                return  # says nothing
        elif isinstance(event, Accepted):
            weight = 0
            fault = self._bounds.fault_of_acceptance(event)
        else:
            weight = 0
        if fault:
            self._session.close(self.key)
            event, weight = SessionLost(request_id=self.key[0], attempt=self.key[1], reason=fault, breach=True), 0
        self._passes = None  # what follows stays behind it
        self._events.append(event)
        self._wake.set()
        self._mailbox_bytes += DELTA_BYTES
        self._waiting_bytes += weight
        self._account.take(weight + DELTA_BYTES)

    def _goes_the_short_way(self, delta: Delta, weight: int) -> bool:
        """Past the mailbox: nobody is woken for it. What is more than plain text, or breaks a bound, does not."""
        if self._passes is None or not delta.plain or not self._bounds.fits_plain(delta, weight):
            return False
        if not self._passes(delta):
            return False
        self._bounds.count_plain(delta, weight)
        self._account.take(weight)
        return True

    def expire(self) -> None:
        """The request's deadline passed: wake the reader with nothing in hand."""
        self._wake.set()

    async def drain(self, passes: Callable[[Delta], bool] | None = None) -> list[AttemptEvent]:
        """Wait for events and take all of them; an empty list means the deadline passed. ``passes`` is offered deltas
        that come while nothing waits: those that it takes end no waiting.

        Raises TooMuchHeld for an answer that had to give way.
        """
        if not self._wake.is_set():
            self._passes = passes
            try:
                await self._wake.wait()
            finally:
                self._passes = None
        self._wake.clear()
        events, self._events = self._events, []
        self._empty_mailbox()
        if self._failed is not None:
            raise self._failed
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
        self._account.cut = None
        self._empty_mailbox()

    def _empty_mailbox(self) -> None:
        self._account.take(-self._mailbox_bytes)
        self._mailbox_bytes = self._waiting_bytes = 0

    def _cut(self, error: AllsortsError) -> None:
        """Give way: what waits is dropped at once, and whoever reads hears of it. The worker hears of it now: a client
        that reads nothing would keep it going.
        """
        self.abort()
        self._failed = error
        self._events = []
        self._account.take(-self._waiting_bytes)
        self._empty_mailbox()
        self._wake.set()
