"""The life of a request: admit, place, dispatch, stream — and go on elsewhere when a worker goes away.

Read this first. A request comes in from ``router.http`` as an ``InferenceRequest``. It waits until admission lets
it in and placement names a worker (``_place``), travels over that worker's session (``_dispatch``), and is
accepted once the worker has counted its prompt exactly. Then its output streams back (``_stream``). When the
worker fails, falls silent or gives the request back, the same loop places what is left of it on another worker,
starting from what the client already has: the client sees one unbroken stream.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from protos.contract.ids import WorkerId
from protos.contract.stream import Accepted, Delta, Refusal, RefusalCode, Returned, Usage
from router.config import DispatchConfig
from router.dispatch.admission_queue import WaitingRoom
from router.dispatch.attempt import Attempt
from router.dispatch.refusal_mapping import is_breach, raise_if_clients_fault, reason_of, workers_fault
from router.dispatch.request_state import Journey
from router.dispatch.retry_policy import condition_of
from router.dispatch.sender import Dispatcher
from router.domain.answer import AnswerHead, Chunk
from router.domain.clock import Clock
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.stream import AttemptEvent, SessionLost
from router.errors import AllsortsError, DeadlineExceeded, WorkerFailed
from router.fleet.membership import Membership
from router.scheduling.placement.interfaces import Placer
from router.telemetry.metrics import Metrics

log = structlog.get_logger()


class Pipeline:
    """Answers requests. One per router replica."""

    def __init__(
        self,
        *,
        room: WaitingRoom,
        dispatcher: Dispatcher,
        membership: Membership,
        placer: Placer,
        config: DispatchConfig,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._room = room
        self._dispatcher = dispatcher
        self._membership = membership
        self._placer = placer
        self._config = config
        self._metrics = metrics
        self._clock = clock

    async def answer(self, request: InferenceRequest) -> "LiveAnswer":
        """Returns once a worker has accepted the request. Raises AllsortsError before that."""
        journey = Journey(request)
        try:
            await self._start(journey)
        except BaseException:
            self.stop(journey)
            raise
        return LiveAnswer(self, journey)

    # -- before the first token ------------------------------------------------------------------------

    async def _start(self, journey: Journey) -> None:
        """Place and dispatch until a worker accepts."""
        while True:
            placed = await self._place(journey)
            attempt = self._dispatch(journey, placed)
            if attempt is None:
                continue
            event = await self._first_word(journey, attempt)
            if isinstance(event, Accepted):
                self._accepted(journey, attempt, event)
                return
            self._not_taken(journey, attempt, event)

    async def _place(self, journey: Journey) -> Placed:
        """Wait for admission and placement; after a failure, elsewhere if there is an elsewhere."""
        if journey.failures >= self._config.max_attempts:
            raise WorkerFailed(f"gave up after {journey.failures} attempts; the last one: {journey.last_failure}")
        if len(journey.transcript.moves) >= self._config.max_moves:
            raise WorkerFailed(f"gave up after {self._config.max_moves} moves; the last one: {journey.last_failure}")
        if journey.busy:
            await asyncio.sleep(min(1.0, 0.02 * 2.0 ** min(journey.busy, 10)))
        return await self._room.place(
            journey.remaining(),
            avoid=self._avoidable(journey),
            continuation=journey.tried,
            again=journey.conflicts > 0,
        )

    def _dispatch(self, journey: Journey, placed: Placed) -> Attempt | None:
        """Send the request to its worker; None when it left in this very moment."""
        condition = condition_of(journey.request, placed, journey.conflicts, continuation=journey.tried)
        journey.attempts += 1
        attempt = self._dispatcher.dispatch(
            journey.request,
            placed,
            number=journey.attempts,
            max_tokens=journey.tokens_left,
            resume=journey.transcript.resume(),
            most_pending_tokens=condition,
        )
        if attempt is None:
            self._placer.finished(journey.request, placed, Outcome(ending="lost"))
            journey.failed(placed, "left just before dispatch")
            return None
        log.debug("dispatch.started", request=journey.request.request_id, node=placed.node, attempt=journey.attempts)
        journey.attempt = attempt
        return attempt

    async def _first_word(self, journey: Journey, attempt: Attempt) -> AttemptEvent:
        """What the worker says to the request; keeps output that arrived together with it."""
        deadline = min(self._clock.now() + self._config.accept_deadline_s, journey.request.deadline_at)
        events: list[AttemptEvent] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - self._clock.now())):
                events = await attempt.take()
        if not events:
            attempt.abort()
            if self._clock.now() >= journey.request.deadline_at:
                self._close_attempt(journey, "deadline")
                raise DeadlineExceeded(f"{attempt.placed.node} did not accept the request within its deadline")
            return SessionLost(request_id=journey.request.request_id, attempt=attempt.key[1], reason="no answer")
        journey.early = events[1:]
        return events[0]

    def _accepted(self, journey: Journey, attempt: Attempt, event: Accepted) -> None:
        instance = self._dispatcher.instance(attempt.placed)
        move = journey.accepted(attempt.placed, event, instance.tokenizer_fingerprint if instance else "")
        if move is not None:
            self._metrics.continued(move.from_quantization, move.to_quantization)
            log.info(
                "stream.continued",
                request=journey.request.request_id,
                was=move.from_node,
                now=move.to_node,
                at_token=move.at_token,
            )

    def _not_taken(self, journey: Journey, attempt: Attempt, event: AttemptEvent) -> None:
        """A refusal or loss before acceptance: raise what is the client's fault, else try elsewhere."""
        placed = attempt.placed
        if isinstance(event, Refusal) and event.code is RefusalCode.CONFLICT and attempt.conditional:
            self._conflict(journey, placed, event)
            return
        refused = isinstance(event, Refusal)
        if isinstance(event, Delta):  # it speaks before it accepted: not to be waited for, nor left running
            attempt.abort()
        self._close_attempt(journey, "refused" if refused else "lost")
        if isinstance(event, Refusal) and not journey.transcript.started:
            tried = frozenset(journey.avoid | {placed.worker_id})
            raise_if_clients_fault(event, journey.request, self._membership.snapshot(), tried)
        journey.failed(placed, reason_of(event), busy=isinstance(event, Refusal) and event.code is RefusalCode.BUSY)
        if workers_fault(event):
            self._membership.failed(placed.worker_id, reason_of(event), breach=is_breach(event))
        log.info("dispatch.failed", request=journey.request.request_id, node=placed.node, reason=journey.last_failure)

    def _conflict(self, journey: Journey, placed: Placed, event: Refusal) -> None:
        """The worker is fuller than was known here: no failure of anybody. Its load came with the refusal."""
        journey.conflicts += 1
        self._close_attempt(journey, "conflict")
        self._metrics.conflict(placed.model, placed.quantization)
        log.info("dispatch.conflict", request=journey.request.request_id, node=placed.node, reason=event.message)

    # -- the stream ------------------------------------------------------------------------------------

    async def stream(self, journey: Journey) -> AsyncIterator[Chunk]:
        """Output as it comes, whichever workers it comes from."""
        timer = self._arm_deadline(journey)
        try:
            while not journey.finished:
                events = journey.early or await self._events(journey)
                journey.early = []
                progress = journey.absorb(events, self._clock.now())
                if progress.final is not None:
                    self._complete(journey, progress.final.usage, str(progress.final.finish_reason))
                    yield journey.last_chunk(progress, progress.final)
                    return
                if progress.chunk is not None:
                    yield progress.chunk
                if progress.trouble is not None:
                    last = await self._go_on_elsewhere(journey, progress.trouble)
                    if last is not None:
                        yield last
        finally:
            timer.cancel()
            self.stop(journey)

    async def _events(self, journey: Journey) -> list[AttemptEvent]:
        assert journey.attempt is not None
        events: list[AttemptEvent] = []
        if self._clock.now() < journey.request.deadline_at:
            events = await journey.attempt.take()
        if not events and self._clock.now() >= journey.request.deadline_at:
            raise DeadlineExceeded("the request's deadline passed before its answer was complete")
        return events

    def _complete(self, journey: Journey, usage: Usage | None, ending: str) -> None:
        assert journey.attempt is not None
        journey.finished = True
        self._membership.succeeded(journey.attempt.placed.worker_id, journey.attempt.started_at)
        self._close_attempt(journey, ending, usage or Usage())

    async def _go_on_elsewhere(self, journey: Journey, trouble: AttemptEvent) -> Chunk | None:
        """The attempt broke off: place what is left. Returns the last chunk when nothing is left to do."""
        attempt = journey.attempt
        assert attempt is not None
        returned = isinstance(trouble, Returned)
        reason = reason_of(trouble)
        log.info("dispatch.broke_off", request=journey.request.request_id, node=attempt.placed.node, reason=reason)
        if not returned:
            attempt.abort()
            self._membership.failed(attempt.placed.worker_id, reason, breach=is_breach(trouble))
        self._close_attempt(journey, "returned" if returned else "lost")
        journey.failed(attempt.placed, reason)
        journey.transcript.settle()
        if journey.tokens_left is not None and journey.tokens_left <= 0:
            journey.finished = True
            return journey.cut_at_limit()
        await self._start(journey)
        return None

    def _avoidable(self, journey: Journey) -> frozenset[WorkerId]:
        """Workers that failed this request, unless that leaves nobody who serves its model."""
        others = any(
            instance.model == journey.request.model.name
            for worker in self._membership.snapshot().workers
            if worker.worker_id not in journey.avoid and self._membership.session_of(worker.worker_id)
            for instance in worker.models
        )
        return frozenset(journey.avoid) if others else frozenset()

    # -- the end ---------------------------------------------------------------------------------------

    def stop(self, journey: Journey) -> None:
        """Nobody reads any more: abort what runs. Idempotent."""
        if journey.attempt is not None and not journey.finished:
            journey.finished = True
            journey.attempt.abort()
            self._close_attempt(journey, "aborted")

    def _arm_deadline(self, journey: Journey) -> asyncio.TimerHandle:
        def expire() -> None:
            if journey.attempt is not None:
                journey.attempt.expire()

        delay = min(max(0.0, journey.request.deadline_at - self._clock.now()) + 0.001, 86_400.0)
        return asyncio.get_running_loop().call_later(delay, expire)

    def _close_attempt(self, journey: Journey, ending: str, usage: Usage | None = None) -> None:
        """Release the claim and tell placement what happened."""
        attempt, journey.attempt = journey.attempt, None
        if attempt is None:
            return
        attempt.end()
        self._membership.release(attempt.placed.worker_id, journey.request.request_id)
        outcome = journey.outcome(attempt, ending, usage, self._clock.now())
        self._placer.finished(journey.request, attempt.placed, outcome)


class LiveAnswer:
    """An answer under way; see ``router.domain.answer.Answer``."""

    def __init__(self, pipeline: Pipeline, journey: Journey) -> None:
        self._pipeline = pipeline
        self._journey = journey
        self._chunks = pipeline.stream(journey)

    @property
    def head(self) -> AnswerHead:
        """Who answers."""
        if self._journey.head is None:
            raise AllsortsError("no worker has accepted the request")
        return self._journey.head

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    async def aclose(self) -> None:
        """Stop: aborts at the worker if it still runs. Idempotent."""
        self._pipeline.stop(self._journey)
        if isinstance(self._chunks, AsyncGenerator):
            with contextlib.suppress(RuntimeError):
                await self._chunks.aclose()
