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
from dataclasses import dataclass, field, replace

import structlog

from router.config import DispatchConfig
from router.dispatch.attempt import Attempt
from router.dispatch.continuation import Transcript
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.waiting_room import WaitingRoom
from router.domain.answer import AnswerHead, Chunk, Continuation
from router.domain.clock import Clock
from router.domain.ids import WorkerId
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.stream import (
    Accepted,
    AttemptEvent,
    Delta,
    FinishReason,
    Refusal,
    RefusalCode,
    Returned,
    SessionLost,
    TokenLogprob,
    Usage,
)
from router.errors import (
    AllsortsError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    UnsupportedParameter,
    WorkerFailed,
)
from router.fleet.membership import Membership
from router.placement.interfaces import Placer
from router.telemetry.metrics import Metrics

log = structlog.get_logger()


@dataclass(slots=True)
class Journey:
    """One request under way: its attempts, what it avoids, what the client already has."""

    request: InferenceRequest
    transcript: Transcript = field(default_factory=Transcript)
    avoid: set[WorkerId] = field(default_factory=set)
    attempts: int = 0
    failures: int = 0  # attempts that failed otherwise than by a busy worker
    busy: int = 0  # refusals in a row because the worker was full
    attempt: Attempt | None = None
    head: AnswerHead | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    last_failure: str = ""
    last_placed: Placed | None = None
    early: list[AttemptEvent] = field(default_factory=list)  # came together with the acceptance
    finished: bool = False


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
        if journey.busy:
            await asyncio.sleep(min(1.0, 0.02 * 2.0**journey.busy))
        continuation = journey.transcript.started
        request = self._remaining(journey) if continuation else journey.request
        avoid = self._avoidable(journey)
        return await self._room.place(request, avoid=avoid, continuation=continuation or journey.attempts > 0)

    def _dispatch(self, journey: Journey, placed: Placed) -> Attempt | None:
        """Send the request to its worker."""
        journey.attempts += 1
        sampling = journey.request.sampling
        left = None if sampling.max_tokens is None else sampling.max_tokens - journey.transcript.settled_tokens
        attempt = self._dispatcher.dispatch(
            journey.request,
            placed,
            number=journey.attempts,
            max_tokens=left,
            resume=journey.transcript.resume(),
        )
        if attempt is None:
            journey.failures += 1
            journey.avoid.add(placed.worker_id)
            journey.last_failure = f"{placed.node} left just before dispatch"
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
        placed = attempt.placed
        journey.busy = 0
        instance = self._dispatcher.instance(placed)
        journey.transcript.fingerprint = instance.tokenizer_fingerprint if instance else ""
        if journey.last_placed is not None and journey.transcript.started:
            self._moved(journey, journey.last_placed, placed)
        journey.last_placed = placed
        journey.cached_tokens = event.cached_tokens
        if journey.head is None:
            journey.prompt_tokens = event.prompt_tokens
            journey.head = AnswerHead(
                request_id=journey.request.request_id,
                worker_id=placed.worker_id,
                node=placed.node,
                model=placed.model,
                quantization=placed.quantization,
                prompt_tokens=event.prompt_tokens,
            )

    def _not_taken(self, journey: Journey, attempt: Attempt, event: AttemptEvent) -> None:
        """A refusal or loss before acceptance: raise what is the client's fault, else try elsewhere."""
        placed = attempt.placed
        attempt.end()
        busy = isinstance(event, Refusal) and event.code is RefusalCode.BUSY
        journey.busy = journey.busy + 1 if busy else 0
        journey.failures += 0 if busy else 1
        if isinstance(event, Refusal):
            self._close_attempt(journey, "refused")
            self._raise_if_clients_fault(journey, event)
            journey.last_failure = f"{placed.node}: {event.message}"
            if event.code is RefusalCode.ENGINE_FAILED:
                self._membership.failed(placed.worker_id, event.message)
        else:
            reason = _reason(event)
            self._close_attempt(journey, "lost")
            journey.last_failure = f"{placed.node}: {reason}"
            if not isinstance(event, Returned):
                self._membership.failed(placed.worker_id, reason)
        journey.avoid.add(placed.worker_id)
        log.info("dispatch.failed", request=journey.request.request_id, node=placed.node, reason=journey.last_failure)

    def _raise_if_clients_fault(self, journey: Journey, refusal: Refusal) -> None:
        if refusal.code is RefusalCode.INVALID:
            raise InvalidRequest(refusal.message, param=refusal.parameter or None)
        elsewhere = self._elsewhere(journey, refusal)
        if refusal.code is RefusalCode.CONTEXT_LENGTH and not elsewhere:
            raise ContextLengthExceeded(refusal.message, param=refusal.parameter or "messages")
        if refusal.code is RefusalCode.UNSUPPORTED and not elsewhere:
            raise UnsupportedParameter(refusal.message, param=refusal.parameter or None)

    def _elsewhere(self, journey: Journey, refusal: Refusal) -> bool:
        """Whether another worker of the model could do what this one cannot."""
        tried = journey.avoid | ({journey.attempt.placed.worker_id} if journey.attempt else set())
        return any(
            instance.context_tokens > refusal.context_tokens
            for worker in self._membership.snapshot().workers
            if worker.worker_id not in tried
            for instance in worker.models
            if instance.model == journey.request.model.name
        )

    # -- the stream ------------------------------------------------------------------------------------

    async def stream(self, journey: Journey) -> AsyncIterator[Chunk]:
        """Output as it comes, whichever workers it comes from."""
        timer = self._arm_deadline(journey)
        try:
            while not journey.finished:
                events = journey.early or await self._events(journey)
                journey.early = []
                chunk, trouble = self._absorb(journey, events)
                if chunk is not None:
                    yield chunk
                if trouble is not None:
                    last = await self._go_on_elsewhere(journey, trouble)
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

    def _absorb(self, journey: Journey, events: list[AttemptEvent]) -> tuple[Chunk | None, AttemptEvent | None]:
        """Merge waiting deltas into one chunk; anything that ends the attempt badly comes back as trouble."""
        text: list[str] = []
        logprobs: list[TokenLogprob] = []
        tokens = 0
        trouble: AttemptEvent | None = None
        final: Delta | None = None
        for event in events:
            if not isinstance(event, Delta):
                trouble = None if isinstance(event, Accepted) else event
            elif event.finish_reason in (FinishReason.ERROR, FinishReason.ABORTED):
                trouble = event
            else:
                self._note_first_token(journey, event)
                logprobs.extend(journey.transcript.absorb(event))
                text.append(event.text)
                tokens += event.token_count
                final = event if event.finish_reason is not None else None
            if trouble is not None or final is not None:
                break
        if final is not None:
            return self._complete(journey, final, "".join(text), tokens, tuple(logprobs)), None
        if not tokens and not any(text):
            return None, trouble
        return Chunk(text="".join(text), token_count=tokens, logprobs=tuple(logprobs)), trouble

    def _complete(
        self, journey: Journey, final: Delta, text: str, tokens: int, logprobs: tuple[TokenLogprob, ...]
    ) -> Chunk:
        assert journey.attempt is not None
        journey.finished = True
        self._membership.succeeded(journey.attempt.placed.worker_id)
        counted = final.usage or Usage()
        self._close_attempt(journey, str(final.finish_reason), counted)
        completion = journey.transcript.settled_tokens + counted.completion_tokens
        return Chunk(
            text=text,
            token_count=tokens,
            logprobs=logprobs,
            finish_reason=final.finish_reason,
            usage=Usage(
                prompt_tokens=journey.prompt_tokens, completion_tokens=completion, cached_tokens=counted.cached_tokens
            ),
            continuations=tuple(journey.transcript.moves),
        )

    # -- going on elsewhere ----------------------------------------------------------------------------

    async def _go_on_elsewhere(self, journey: Journey, trouble: AttemptEvent) -> Chunk | None:
        """The attempt broke off: place what is left. Returns the last chunk when nothing is left to do."""
        attempt = journey.attempt
        assert attempt is not None
        reason = _reason(trouble)
        journey.last_failure = f"{attempt.placed.node}: {reason}"
        log.info("dispatch.broke_off", request=journey.request.request_id, node=attempt.placed.node, reason=reason)
        if isinstance(trouble, Returned):
            attempt.end()
        else:
            attempt.abort()
            self._membership.failed(attempt.placed.worker_id, reason)
        self._close_attempt(journey, "returned" if isinstance(trouble, Returned) else "lost")
        journey.failures += 1
        journey.avoid.add(attempt.placed.worker_id)
        journey.transcript.settle()
        limit = journey.request.sampling.max_tokens
        if limit is not None and journey.transcript.settled_tokens >= limit:
            return self._cut_at_limit(journey)
        await self._start(journey)
        return None

    def _cut_at_limit(self, journey: Journey) -> Chunk:
        """Every token the client asked for is with it; only the farewell was lost."""
        journey.finished = True
        usage = Usage(prompt_tokens=journey.prompt_tokens, completion_tokens=journey.transcript.settled_tokens)
        return Chunk(finish_reason=FinishReason.LENGTH, usage=usage, continuations=tuple(journey.transcript.moves))

    def _moved(self, journey: Journey, old: Placed, new: Placed) -> None:
        journey.transcript.moves.append(
            Continuation(
                from_node=old.node,
                to_node=new.node,
                from_quantization=old.quantization,
                to_quantization=new.quantization,
                at_token=journey.transcript.settled_tokens,
                reason=journey.last_failure,
            )
        )
        self._metrics.continued(old.quantization, new.quantization)
        log.info(
            "stream.continued",
            request=journey.request.request_id,
            was=old.node,
            now=new.node,
            at_token=journey.transcript.settled_tokens,
        )

    def _remaining(self, journey: Journey) -> InferenceRequest:
        """The request as placement should see it now: longer prompt, fewer tokens to go."""
        done = journey.transcript.settled_tokens
        return replace(
            journey.request,
            continues=True,
            prompt_tokens_estimate=(journey.prompt_tokens or journey.request.prompt_tokens_estimate) + done,
            expected_output_tokens=max(1, journey.request.expected_output_tokens - done),
        )

    def _avoidable(self, journey: Journey) -> frozenset[WorkerId]:
        """Workers that failed this request, unless that leaves nobody who serves its model."""
        others = any(
            instance.model == journey.request.model.name
            for worker in self._membership.snapshot().workers
            if worker.worker_id not in journey.avoid and self._membership.session_of(worker.worker_id)
            for instance in worker.models
        )
        return frozenset(journey.avoid) if others else frozenset()

    # -- bookkeeping -----------------------------------------------------------------------------------

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

    def _note_first_token(self, journey: Journey, delta: Delta) -> None:
        attempt = journey.attempt
        if attempt is not None and attempt.first_token_at is None and delta.token_count:
            attempt.first_token_at = self._clock.now()

    def _close_attempt(self, journey: Journey, ending: str, usage: Usage | None = None) -> None:
        """Release the claim and tell placement what happened."""
        attempt, journey.attempt = journey.attempt, None
        if attempt is None:
            return
        attempt.end()
        self._membership.release(attempt.placed.worker_id, journey.request.request_id)
        now = self._clock.now()
        first = attempt.first_token_at
        outcome = Outcome(
            finished_at=now,
            ttft_s=None if first is None else first - attempt.started_at,
            e2e_s=now - attempt.started_at,
            prompt_tokens=usage.prompt_tokens if usage else journey.prompt_tokens,
            cached_tokens=usage.cached_tokens if usage else journey.cached_tokens,
            completion_tokens=usage.completion_tokens if usage else journey.transcript.output_tokens,
            ending=ending,
        )
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


def _reason(event: AttemptEvent) -> str:
    if isinstance(event, (SessionLost, Returned)):
        return event.reason
    if isinstance(event, Delta):
        return event.error or f"the worker ended the stream ({event.finish_reason})"
    return f"unexpected answer {type(event).__name__}"
