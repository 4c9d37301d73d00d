"""One dispatch of one request to one worker: a mailbox between the session's reader and the request's reader.

The session's reader never waits for a slow client: it drops events here and goes on. The mailbox is bounded by
the request's own token budget, because a worker that sends more than it was asked for is cut off.
"""

import asyncio

from protos.contract.ids import AttemptKey, RequestId
from protos.contract.stream import Delta
from router.domain.placement import Placed
from router.domain.stream import AttemptEvent, SessionLost
from router.fleet.session import Session

CHARACTERS_PER_TOKEN = 1024
TEXT_SLACK = 4096
"""An answer's text may have so many characters for each of its tokens, and so many beside. That is far more than the
longest words of any vocabulary, and bounds what a worker can make the router hold.
"""

USAGE_SLACK = 64
"""Servers differ in what they count: end markers, or what a stop string cut off."""

MAX_ALTERNATIVES = 64
"""Alternative tokens beside a token's log-probability."""


class Attempt:
    """Collects an attempt's events. ``drain`` returns everything that waits, at once."""

    def __init__(
        self,
        *,
        request_id: RequestId,
        number: int,
        placed: Placed,
        session: Session,
        token_budget: int,
        conditional: bool = False,
    ) -> None:
        self.key: AttemptKey = (request_id, number)
        self.placed = placed
        self.conditional = conditional  # sent with a condition, which the worker may find broken
        self.sequence = 0  # its command's number on the session
        self.started_at = 0.0
        self.first_token_at: float | None = None
        self._session = session
        self._token_budget = token_budget
        self._tokens = 0
        self._characters = 0
        self._events: list[AttemptEvent] = []
        self._wake = asyncio.Event()
        self._ended = False

    def on_event(self, event: AttemptEvent) -> None:
        """Called by the session's reader. Checks that deltas follow one another and stay within the budget."""
        if isinstance(event, Delta):
            fault = self._fault(event)
            if fault:
                self._session.close(self.key)
                event = SessionLost(request_id=event.request_id, attempt=event.attempt, reason=fault, breach=True)
            else:
                self._tokens += event.token_count
                self._characters += len(event.text) + len(event.reasoning)
                if not (event.token_count or event.text or event.reasoning or event.finish_reason):
                    return  # says nothing
        self._events.append(event)
        self._wake.set()

    def expire(self) -> None:
        """The request's deadline passed: wake the reader with nothing in hand."""
        self._wake.set()

    async def drain(self) -> list[AttemptEvent]:
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
        """What is wrong with it; empty for nothing. A worker can lie about its text, and about nothing else here."""
        tokens = self._tokens + delta.token_count
        if delta.position != self._tokens:
            return f"the worker spoke at token {delta.position}, expected {self._tokens}"
        if tokens > self._token_budget:
            return f"the worker sent more than the {self._token_budget} tokens it was asked for"
        if self._characters + len(delta.text) + len(delta.reasoning) > CHARACTERS_PER_TOKEN * tokens + TEXT_SLACK:
            return f"the worker sent more text than {tokens} tokens can have"
        if max(len(delta.token_ids), len(delta.logprobs)) > max(delta.token_count, 1) or delta.text_tokens > tokens:
            return f"the worker sent particulars of more tokens than the {tokens} it produced"
        if any(len(one.top) > MAX_ALTERNATIVES for one in delta.logprobs):
            return f"the worker sent more than {MAX_ALTERNATIVES} alternatives of a token"
        if delta.usage is not None and delta.usage.completion_tokens > self._token_budget + USAGE_SLACK:
            return f"the worker charges for more than the {self._token_budget} tokens it was asked for"
        return ""
