"""The life of a request: place, admit, send, stream — and go on elsewhere when a worker goes away.

Read this first. A request comes in from ``router.http`` as an ``InferenceRequest``. The scheduler names the worker that
would serve it best and lets it go there, now or later (``_start``); it travels over that worker's session (``_send``)
and is accepted once the worker has counted its prompt exactly (``_first_event``). Then its output streams back
(``stream``). When the worker fails, falls silent or gives the request back, the scheduler places what is left on
another worker. That one starts from what the client already has, so that the client sees one unbroken stream. Whatever
happens, the scheduler hears of each attempt's end exactly once, and of a client that leaves (``release``).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned, Usage
from router.config import DispatchConfig
from router.dispatch.admission_queue import AdmissionQueue
from router.dispatch.answer_memory import AnswerMemory
from router.dispatch.attempt import Attempt
from router.dispatch.attempt_events import fault_of, reason_of
from router.dispatch.request_state import RequestState
from router.dispatch.sender import Sender
from router.domain.answer import AnswerHead, Chunk, Pour
from router.domain.clock import Clock
from router.domain.placement import Ending, Outcome
from router.domain.request import InferenceRequest
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import AllsortsError, DeadlineExceeded, WorkerFailed
from router.scheduling.events import (
    Arrived,
    AttemptEnded,
    ClientLeft,
    CommandSent,
    Event,
    Fault,
    Send,
    WorkerAccepted,
    WorkerRefused,
)
from router.telemetry.metrics import Metrics

log = structlog.get_logger()


class Pipeline:
    """Answers requests. One per router replica."""

    def __init__(
        self, *, queue: AdmissionQueue, sender: Sender, config: DispatchConfig, metrics: Metrics, clock: Clock
    ) -> None:
        self._memory = AnswerMemory(config.answers_limit_bytes)
        self._queue = queue
        self._sender = sender
        self._config = config
        self._metrics = metrics
        self._clock = clock

    async def answer(self, request: InferenceRequest) -> "LiveAnswer":
        """Returns once a worker has accepted the request. Raises AllsortsError before that."""
        state = RequestState(request, self._memory.open())
        try:
            await self._start(state, Arrived(request))
        except BaseException:
            self.release(state)
            state.account.close()
            raise
        return LiveAnswer(self, state)

    # -- before the first token ------------------------------------------------------------------------

    async def _start(self, state: RequestState, cause: Event) -> None:
        """Ask where to go and send, until a worker accepts. ``cause``: why the request waits for a decision."""
        again: Event | None = cause
        while again is not None:
            send = await self._queue.ask(again, state.request_id, state.request.model.name)
            again = self._send(state, send) or await self._until_accepted(state)

    def _send(self, state: RequestState, send: Send) -> AttemptEnded | None:
        """Send the command; the attempt's end when its worker left in this very moment."""
        placed = send.placed
        attempt = self._sender.send(
            send, max_tokens=state.tokens_left, resume=state.transcript.resume(), account=state.account
        )
        if attempt is None:
            state.failed(placed, "left just before dispatch")
            log.info("dispatch.failed", request_id=state.request_id, node=placed.node, reason=state.last_failure)
            outcome = Outcome(finished_at=self._clock.now(), ending=Ending.UNSENT)
            return self._ended(state, outcome, "left just before dispatch", Fault.NONE)
        state.attempt = attempt
        self._queue.tell(CommandSent(state.request_id, attempt.sequence))
        log.debug("dispatch.started", request_id=state.request_id, node=placed.node, attempt=send.attempt)
        return None

    async def _until_accepted(self, state: RequestState) -> WorkerRefused | AttemptEnded | None:
        """Wait for the worker's answer; None once it has accepted, else how the attempt ended."""
        attempt = state.attempt
        assert attempt is not None
        event = await self._first_event(state, attempt)
        if isinstance(event, Accepted):
            self._accepted(state, attempt, event)
            return None
        return self._not_accepted(state, attempt, event)

    async def _first_event(self, state: RequestState, attempt: Attempt) -> AttemptEvent:
        """What the worker answers; keeps output that arrived together with it."""
        deadline = min(self._clock.now() + self._config.accept_deadline_s, state.request.deadline_at)
        timer = asyncio.get_running_loop().call_later(max(0.0, deadline - self._clock.now()), attempt.expire)
        try:
            events = await attempt.drain()
        finally:
            timer.cancel()
        if not events:
            if self._clock.now() >= state.request.deadline_at:
                raise DeadlineExceeded(f"{attempt.placed.node} did not accept the request within its deadline")
            attempt.abort()
            return SessionLost(request_id=state.request_id, attempt=attempt.key[1], reason="no answer")
        state.early = events[1:]
        return events[0]

    def _accepted(self, state: RequestState, attempt: Attempt, event: Accepted) -> None:
        self._queue.tell(WorkerAccepted(state.request_id, event.prompt_tokens))
        instance = self._sender.instance(attempt.placed)
        move = state.accepted(attempt.placed, event, instance.tokenizer_fingerprint if instance else "")
        if move is not None:
            self._metrics.continued(move.from_quantization, move.to_quantization)
            log.info(
                "stream.continued",
                request_id=state.request_id,
                was=move.from_node,
                now=move.to_node,
                at_token=move.at_token,
            )

    def _not_accepted(self, state: RequestState, attempt: Attempt, event: AttemptEvent) -> WorkerRefused | AttemptEnded:
        """A refusal, a loss, or output that came before acceptance: that is not to be waited for, nor left running."""
        if isinstance(event, Delta):
            attempt.abort()
        placed, reason = attempt.placed, reason_of(event)
        if not isinstance(event, Refusal):
            state.failed(placed, reason)
            log.info("dispatch.failed", request_id=state.request_id, node=placed.node, reason=reason)
            return self._ended(state, self._close(state, Ending.LOST), reason, fault_of(event))
        if event.code is RefusalCode.CONFLICT and attempt.conditional:
            self._metrics.conflict(placed.model, placed.quantization)
            log.info("dispatch.conflict", request_id=state.request_id, node=placed.node, reason=reason)
            return WorkerRefused(state.request_id, event, self._close(state, Ending.CONFLICT))
        state.failed(placed, reason)
        log.info("dispatch.refused", request_id=state.request_id, node=placed.node, reason=reason)
        return WorkerRefused(state.request_id, event, self._close(state, Ending.REFUSED))

    # -- the stream ------------------------------------------------------------------------------------

    async def stream(self, state: RequestState) -> AsyncIterator[Chunk]:
        """Output as it comes, whichever workers it comes from; plain text after the first takes ``state.short_way``."""
        timer = self._arm_deadline(state)
        try:
            while not state.finished:
                events = state.early or await self._events(state)
                state.early = []
                progress = state.absorb(events, self._clock.now())
                if progress.final is not None:
                    self._complete(state, progress.final)
                    yield state.last_chunk(progress, progress.final)
                    return
                if progress.chunk is not None:
                    yield progress.chunk
                if progress.trouble is not None:
                    last = await self._go_on_elsewhere(state, progress.trouble)
                    if last is not None:
                        yield last
        finally:
            timer.cancel()
            self.release(state)

    async def _events(self, state: RequestState) -> list[AttemptEvent]:
        assert state.attempt is not None
        events: list[AttemptEvent] = []
        if self._clock.now() < state.request.deadline_at:
            events = await state.attempt.drain(state.short_way())
        if not events and self._clock.now() >= state.request.deadline_at:
            raise DeadlineExceeded("the request's deadline passed before its answer was complete")
        return events

    def _complete(self, state: RequestState, final: Delta) -> None:
        node = state.attempt.placed.node if state.attempt is not None else ""
        ending = Ending.LENGTH if final.finish_reason is FinishReason.LENGTH else Ending.STOP
        outcome = self._close(state, ending, final.usage or Usage())
        self._queue.tell(self._ended(state, outcome, "", Fault.NONE))
        state.finished = True
        log.debug("dispatch.complete", request_id=state.request_id, node=node, ending=outcome.ending)

    async def _go_on_elsewhere(self, state: RequestState, trouble: AttemptEvent) -> Chunk | None:
        """The attempt broke off: place what is left. Returns the last chunk when nothing is left to do."""
        attempt = state.attempt
        assert attempt is not None
        returned, reason = isinstance(trouble, Returned), reason_of(trouble)
        log.info("dispatch.broke_off", request_id=state.request_id, node=attempt.placed.node, reason=reason)
        if not returned:
            attempt.abort()
        outcome = self._close(state, Ending.RETURNED if returned else Ending.LOST)
        state.failed(attempt.placed, reason)
        state.transcript.settle()
        ended = self._ended(state, outcome, reason, fault_of(trouble))
        if ended.complete:
            self._queue.tell(ended)
            state.finished = True
            if state.transcript.unreadable:
                raise WorkerFailed(f"the answer broke off in a call that no other worker can go on with: {reason}")
            return state.cut_at_limit()
        await self._start(state, ended)
        return None

    # -- the end ---------------------------------------------------------------------------------------

    def _ended(self, state: RequestState, outcome: Outcome, reason: str, fault: Fault) -> AttemptEnded:
        """What the scheduler hears of an attempt's end."""
        left = state.tokens_left
        return AttemptEnded(
            state.request_id,
            outcome,
            reason=reason,
            fault=fault,
            sent_tokens=state.transcript.settled_tokens,
            started=state.transcript.started,
            progressed=outcome.ttft_s is not None,
            complete=state.transcript.unreadable or (state.transcript.started and left is not None and left <= 0),
            output_format=self._output_format(state),
        )

    def _output_format(self, state: RequestState) -> str:
        """How what the client has is marked, where it is."""
        if not state.transcript.marked or state.last_placed is None:
            return ""
        instance = self._sender.instance(state.last_placed)
        return state.request.output_format if instance is None else instance.output_format

    def release(self, state: RequestState) -> None:
        """Nobody reads any more, or time is up: abort what runs, and let the scheduler forget it. Idempotent."""
        if state.finished:
            return
        state.finished = True
        outcome = None
        if state.attempt is not None:
            state.attempt.abort()
            late = self._clock.now() >= state.request.deadline_at
            node = state.attempt.placed.node
            outcome = self._close(state, Ending.DEADLINE if late else Ending.ABORTED)
            log.debug("dispatch.abandoned", request_id=state.request_id, node=node, ending=outcome.ending)
        self._queue.tell(ClientLeft(state.request_id, outcome))

    def _arm_deadline(self, state: RequestState) -> asyncio.TimerHandle:
        def expire() -> None:
            if state.attempt is not None:
                state.attempt.expire()

        delay = min(max(0.0, state.request.deadline_at - self._clock.now()) + 0.001, 86_400.0)
        return asyncio.get_running_loop().call_later(delay, expire)

    def _close(self, state: RequestState, ending: Ending, usage: Usage | None = None) -> Outcome:
        """The attempt under way is over; what came of it."""
        attempt, state.attempt = state.attempt, None
        assert attempt is not None
        attempt.end()
        return state.outcome(attempt, ending, usage, self._clock.now())


class LiveAnswer:
    """An answer under way; see ``router.domain.answer.Answer``."""

    def __init__(self, pipeline: Pipeline, state: RequestState) -> None:
        self._pipeline = pipeline
        self._state = state
        self._chunks = pipeline.stream(state)

    @property
    def head(self) -> AnswerHead:
        """Who answers."""
        if self._state.head is None:
            raise AllsortsError("no worker has accepted the request")
        return self._state.head

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    def pour_to(self, pour: Pour) -> None:
        """Plain text goes there from now on."""
        self._state.pour = pour

    async def aclose(self) -> None:
        """Stop: aborts at the worker if it still runs. Idempotent."""
        self._pipeline.release(self._state)
        self._state.account.close()
        if isinstance(self._chunks, AsyncGenerator):
            with contextlib.suppress(RuntimeError):
                await self._chunks.aclose()
