"""One inference request at the HTTP edge: from bytes to a placed answer, and its chunks out to the client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import structlog

from protos.contract.ids import RequestId
from protos.contract.stream import TokenLogprob, Usage
from router.config import HttpConfig
from router.domain.answer import Answer, AnswerHead, Chunk
from router.domain.clock import Clock
from router.domain.principal import Principal
from router.domain.request import InferenceRequest, RequestKind
from router.domain.snapshot import FleetSnapshot
from router.errors import AllsortsError, RateLimited, Unavailable, WorkerFailed
from router.http.admin.rejection_log import RejectionLog
from router.http.dialects.logprobs import CompletionLogprobs, chat_logprobs
from router.http.dialects.openai_bodies import answer_body, disclosure
from router.http.dialects.prompt_size import PromptSizes, TextFacts
from router.http.dialects.schemas import ChatRequest, CompletionRequest
from router.http.dialects.sse import SIGN_OF_LIFE, SseWriter
from router.http.dialects.translate import Arrival, Call, chat_call, completion_call
from router.http.server.body_budget import BodyBudget, BodyShare
from router.http.server.decoding import MAX_NAME_CHARS, BodyDecoder
from router.http.server.errors import error_event
from router.http.server.exchange import EVENT_STREAM, Exchange, Headers
from router.http.server.heartbeat import Heartbeat
from router.http.server.interfaces import Authenticator, FleetReader, Pipeline
from router.http.server.large_bodies import LargeBodies
from router.scheduling.placement.quality import Quality
from router.telemetry.metrics import Metrics

log = structlog.get_logger()

_NO_STORE = (b"cache-control", b"no-cache")
_NO_BUFFERING = (b"x-accel-buffering", b"no")  # proxies of the nginx family hold streams back without it


@dataclass(slots=True)
class Progress:
    """What is known of a request so far: what its metrics and its caller's limits are told at the end."""

    arrived_at: float
    principal: Principal
    model: str = "unknown"
    head: AnswerHead | None = None
    first_token_at: float | None = None
    tokens: int = 0
    usage: Usage | None = None
    broke: bool = False  # after the status line was out
    answered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Serves both inference endpoints. ``expect_output`` guesses a request's output tokens; 0: no guess."""

    pipeline: Pipeline
    fleet: FleetReader
    authenticator: Authenticator
    metrics: Metrics
    config: HttpConfig
    clock: Clock
    quality: Quality
    expect_output: Callable[[InferenceRequest], float]
    model_floors: Mapping[str, str]
    rejections: RejectionLog
    bodies: BodyBudget
    large: LargeBodies = field(default_factory=LargeBodies)
    sizes: PromptSizes = field(default_factory=PromptSizes)
    _chat: BodyDecoder[ChatRequest] = field(init=False)
    _completion: BodyDecoder[CompletionRequest] = field(init=False)

    def __post_init__(self) -> None:
        strict = self.config.unknown_fields == "refuse"
        object.__setattr__(self, "_chat", BodyDecoder(ChatRequest, strict=strict))
        object.__setattr__(self, "_completion", BodyDecoder(CompletionRequest, strict=strict))

    async def serve(
        self, exchange: Exchange, kind: RequestKind, principal: Principal, request_id: RequestId, arrived_at: float
    ) -> None:
        """Answer, or raise AllsortsError before anything was sent. Leaves nothing running, however it ends."""
        progress = Progress(arrived_at, principal)
        status = "500"
        try:
            await self._serve(exchange, kind, request_id, progress)
            status = "broken" if progress.broke else "200"
        except AllsortsError as error:
            status = "aborted" if error.http_status == 499 else str(error.http_status)
            if isinstance(error, (Unavailable, RateLimited)) and progress.head is None:
                self.metrics.shed(error.code)
            raise
        finally:
            self._account(progress, status)

    async def _serve(self, exchange: Exchange, kind: RequestKind, request_id: RequestId, progress: Progress) -> None:
        with self.bodies.open() as share:
            await self._serve_within(exchange, kind, request_id, progress, share)

    async def _serve_within(
        self, exchange: Exchange, kind: RequestKind, request_id: RequestId, progress: Progress, share: BodyShare
    ) -> None:
        body = await exchange.body(self.config.body_limit_bytes, self.config.body_deadline_s, share)
        arrival = Arrival(
            request_id=request_id,
            principal=progress.principal,
            arrived_at=progress.arrived_at,
            longest_s=self.config.request_deadline_s,
            quality_header=exchange.header(b"x-allsorts-quality"),
            estimate=partial(self._estimate, self.fleet.snapshot()),
            model_floors=self.model_floors,
        )
        read = partial(self._understand, exchange, kind, body, arrival)
        call = await self.large.understand(body, read)
        request = call.request
        del body
        share.settle(request)
        if request.model.name in self.fleet.known_models():
            progress.model = request.model.name
        async with exchange.watch():
            answer = await self.pipeline.answer(request)
            try:
                progress.head = answer.head
                progress.model = answer.head.model
                self._learn(call, answer.head.prompt_tokens)
                if call.stream:
                    await self._stream(exchange, call, answer, progress)
                else:
                    await self._whole(exchange, call, answer, progress)
            finally:
                await answer.aclose()

    def _understand(self, exchange: Exchange, kind: RequestKind, body: bytes, arrival: Arrival) -> Call:
        if kind is RequestKind.CHAT:
            chat, ignored = self._chat.decode(body)
            _name_ignored(exchange, ignored)
            call = chat_call(chat, arrival, self.quality)
        else:
            completion, ignored = self._completion.decode(body)
            _name_ignored(exchange, ignored)
            call = completion_call(completion, arrival, self.quality)
        expected = round(self.expect_output(call.request))
        return replace(call, request=replace(call.request, expected_output_tokens=expected)) if expected else call

    def _estimate(self, fleet: FleetSnapshot, model: str, text: TextFacts) -> int:
        """The fleet as it was when the body had come: a large one is understood beside the event loop."""
        return self.sizes.estimate(model, text, fleet)

    def _learn(self, call: Call, prompt_tokens: int) -> None:
        if not isinstance(call.request.prompt, tuple):  # token ids were counted, not guessed
            self.sizes.learn(call.request.model.name, call.text, prompt_tokens)

    # -- answers -----------------------------------------------------------------------------------------

    async def _stream(self, exchange: Exchange, call: Call, answer: Answer, progress: Progress) -> None:
        writer = SseWriter(
            call.request.kind, answer.head, created=int(self.clock.wall()), include_usage=call.include_usage
        )
        headers = [(b"content-type", EVENT_STREAM), _NO_STORE, _NO_BUFFERING, *self._headers(answer.head, progress)]
        exchange.streaming = True
        await exchange.start(200, headers)
        waiting = writer.opening()  # goes out with the first token: alone it would pass for one
        try:
            async with Heartbeat(exchange, SIGN_OF_LIFE, self.config.sign_of_life_s) as beating:
                async for chunk in answer:
                    data = writer.text(chunk)
                    if data:
                        data = waiting + data
                    if chunk.finish_reason is not None:
                        usage = self._note_end(progress, chunk)
                        data = (data or waiting) + writer.ending(chunk.finish_reason, usage, chunk.continuations)
                        await beating.stop()
                        await exchange.write(data, more=False)
                        self._note_chunk(progress, chunk)
                        return
                    if data:
                        waiting = b""
                        await beating.stop()
                        await exchange.write(data)
                    self._note_chunk(progress, chunk)
                raise WorkerFailed("the answer broke off without an end")
        except AllsortsError as error:
            progress.broke = True
            log.info("stream.failed", request_id=answer.head.request_id, code=error.code, reason=error.message)
            self.rejections.note(answer.head.request_id, error)
            await exchange.write(error_event(error), more=False)

    async def _whole(self, exchange: Exchange, call: Call, answer: Answer, progress: Progress) -> None:
        texts: list[str] = []
        thoughts: list[str] = []
        logprobs: list[TokenLogprob] = []
        last: Chunk | None = None
        async for chunk in answer:
            texts.append(chunk.text)
            thoughts.append(chunk.reasoning)
            logprobs.extend(chunk.logprobs)
            self._note_chunk(progress, chunk)
            if chunk.finish_reason is not None:
                last = chunk
                break
        if last is None or last.finish_reason is None:
            raise WorkerFailed("the answer broke off without an end")
        body = answer_body(
            call.request.kind,
            answer.head,
            created=int(self.clock.wall()),
            text="".join(texts),
            reasoning="".join(thoughts),
            finish_reason=last.finish_reason,
            usage=self._note_end(progress, last),
            logprobs=_logprobs(call, tuple(logprobs)),
            continuations=last.continuations,
        )
        await exchange.respond(
            200, msgspec.json.encode(body), headers=self._headers(answer.head, progress, last.continuations)
        )

    def _headers(self, head: AnswerHead, progress: Progress, continuations: tuple[Any, ...] = ()) -> Headers:
        """Who answers; for a stream, who began to: its last event tells who finished."""
        shown = disclosure(head, continuations)
        headers = [
            (b"x-request-id", head.request_id.encode()),
            (b"x-allsorts-worker", _header_value(shown["worker"])),
            (b"x-allsorts-quantization", _header_value(shown["quantization"])),
            *self.authenticator.rate_headers(progress.principal),
        ]
        if continuations:
            headers.append((b"x-allsorts-continued", b"%d" % len(continuations)))
        return headers

    # -- bookkeeping -------------------------------------------------------------------------------------

    def _note_chunk(self, progress: Progress, chunk: Chunk) -> None:
        progress.tokens += chunk.token_count
        if progress.first_token_at is None and (chunk.text or chunk.reasoning or chunk.logprobs):
            progress.first_token_at = self.clock.now()

    def _note_end(self, progress: Progress, chunk: Chunk) -> Usage:
        head = progress.head
        counted = Usage(prompt_tokens=head.prompt_tokens if head else 0, completion_tokens=progress.tokens)
        progress.usage = chunk.usage or counted
        return progress.usage

    def _account(self, progress: Progress, status: str) -> None:
        head, usage = progress.head, progress.usage
        if usage is None and head is not None:  # cut short: what was computed was computed
            usage = Usage(prompt_tokens=head.prompt_tokens, completion_tokens=progress.tokens)
        first = progress.first_token_at
        self.metrics.request_ended(
            model=progress.model,
            quantization=head.quantization if head else "",
            status=status,
            e2e_s=self.clock.now() - progress.arrived_at,
            ttft_s=None if first is None else first - progress.arrived_at,
            usage=usage,
        )
        if usage is not None:
            self.authenticator.charge(progress.principal, usage.prompt_tokens + usage.completion_tokens)


def _logprobs(call: Call, tokens: tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    if not call.request.sampling.logprobs:
        return None
    return chat_logprobs(tokens) if call.request.kind is RequestKind.CHAT else CompletionLogprobs().take(tokens)


def _name_ignored(exchange: Exchange, names: tuple[str, ...]) -> None:
    """Fields that had no effect, in the answer's headers: also where the answer is an error."""
    if names:
        shown = ", ".join(name[:MAX_NAME_CHARS] for name in names)
        exchange.more_headers = (*exchange.more_headers, (b"x-allsorts-ignored", _header_value(shown)))


def _header_value(text: str) -> bytes:
    """A worker chose this text; control characters have no business in a header."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text).encode()
