"""One inference request at the HTTP edge: from bytes to placed answers, and their chunks out to the client.

The same for every dialect; what a body means and how an answer is written is the dialect's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from protos.contract.ids import RequestId
from protos.contract.stream import Usage
from router.config import HttpConfig
from router.domain.answer import AnswerHead, Chunk
from router.domain.clock import Clock
from router.domain.principal import Principal
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.errors import AllsortsError, RateLimited, Unavailable, WorkerFailed
from router.http.admin.rejection_log import RejectionLog
from router.http.auth.meters import expected_tokens
from router.http.dialects.accounts import Progress, total_usage
from router.http.dialects.answering import Answering
from router.http.dialects.collected import Collected
from router.http.dialects.coming_up import head_with_signs
from router.http.dialects.dialect import Call, Dialect, Told, Writer
from router.http.dialects.headers import answer_headers, ignored_header
from router.http.dialects.responses.kept import KeptResponses
from router.http.dialects.shared.images import budget_left, images_at, with_images
from router.http.dialects.shared.prompt_size import PromptSizes, TextFacts
from router.http.dialects.shared.requests import Arrival, Asked, requests_of
from router.http.dialects.shared.sampling_defaults import DefaultsBook, ModelDefaults
from router.http.dialects.shared.wish import Wish
from router.http.fetching.fetcher import ImageFetcher
from router.http.server.body_budget import BodyBudget, BodyShare
from router.http.server.exchange import Exchange
from router.http.server.heartbeat import Heartbeat
from router.http.server.interfaces import Authenticator, FleetReader, ModelWaits, Pipeline
from router.http.server.large_bodies import LargeBodies
from router.http.streaming.direct_writes import DirectWrites
from router.scheduling.placement.quality import Quality
from router.telemetry.metrics import Metrics

log = structlog.get_logger()

_NO_STORE = (b"cache-control", b"no-cache")
_NO_BUFFERING = (b"x-accel-buffering", b"no")  # proxies of the nginx family hold streams back without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Serves every dialect. ``expect_output`` guesses a request's output tokens; 0: no guess."""

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
    kept: KeptResponses
    waits: ModelWaits
    images: ImageFetcher
    large: LargeBodies = field(default_factory=LargeBodies)
    sizes: PromptSizes = field(default_factory=PromptSizes)
    _book: DefaultsBook = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_book", DefaultsBook(self.config.sampling))

    async def serve(
        self, exchange: Exchange, dialect: Dialect, principal: Principal, request_id: RequestId, arrived_at: float
    ) -> None:
        """Answer, or raise AllsortsError before anything was sent. Leaves nothing running, however it ends."""
        progress = Progress(request_id, arrived_at, principal)
        status = "500"
        try:
            await self._serve(exchange, dialect, progress)
            status = "broken" if progress.broke else "200"
        except AllsortsError as error:
            status = "aborted" if error.http_status == 499 else str(error.http_status)
            if isinstance(error, (Unavailable, RateLimited)) and progress.head is None:
                self.metrics.shed(error.code)
            raise
        finally:
            self._account(progress, status)

    async def _serve(self, exchange: Exchange, dialect: Dialect, progress: Progress) -> None:
        with self.bodies.open() as share:
            body = await exchange.body(self.config.body_limit_bytes, self.config.body_deadline_s, share)
            arrival = self._arrival(progress, exchange.header(b"x-allsorts-quality"))
            call, asked = await self.large.understand(body, partial(self._understand, dialect, body, arrival))
            progress.turn = call.turn
            wish = await self._completed(call, progress, share)
            if wish is not call.wish:
                asked = await self.large.understand(body, partial(self._requests, wish, arrival))
            del body
            share.settle(*(one.request for one in asked))
            expected = sum(expected_tokens(one.request) for one in asked)
            progress.reservation = self.authenticator.reserve(progress.principal, expected)
            if call.ignored:
                exchange.more_headers = (*exchange.more_headers, ignored_header(call.ignored))
            await self._answer(exchange, dialect, call, asked, progress)

    async def _answer(
        self, exchange: Exchange, dialect: Dialect, call: Call, asked: tuple[Asked, ...], progress: Progress
    ) -> None:
        progress.prompt_of = tuple(one.prompt_index for one in asked)
        progress.tokens = [0] * len(asked)
        model = asked[0].request.model.name
        if model in self.fleet.known_models():
            progress.model = model
        async with exchange.watch():
            answering = Answering(self.pipeline, [one.request for one in asked])
            try:
                progress.head = await self._head(exchange, dialect, call, answering, progress, model)
                progress.model = progress.head.model
                if call.count_only:
                    await self._count(exchange, call, answering, progress)
                    return
                writer = call.writing(self._told(progress.head, progress))
                if call.stream:
                    await self._stream(exchange, dialect, writer, answering, progress)
                else:
                    await self._whole(exchange, writer, answering, progress)
            finally:
                progress.heads = answering.heads
                self._learn(asked, answering.heads)
                await answering.aclose()

    async def _head(
        self, exchange: Exchange, dialect: Dialect, call: Call, answering: Answering, progress: Progress, model: str
    ) -> AnswerHead:
        """Who answers. A model that has to be brought up first may take its time, which a stream says."""
        if call.keep_alive_s is not None:
            self.waits.keep_alive(model, call.keep_alive_s)
        if not (call.stream and dialect.sign_of_life and self.waits.coming(model)):
            return await answering.start()
        headers = [*self._stream_headers(dialect), (b"x-request-id", progress.request_id.encode())]
        told = partial(self.waits.coming, model)
        return await head_with_signs(answering, exchange, dialect, headers=headers, told=told)

    @staticmethod
    def _stream_headers(dialect: Dialect) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", dialect.stream_type), _NO_STORE, _NO_BUFFERING]

    def _arrival(self, progress: Progress, quality_header: str | None) -> Arrival:
        return Arrival(
            request_id=progress.request_id,
            principal=progress.principal,
            arrived_at=progress.arrived_at,
            longest_s=self.config.request_deadline_s,
            quality_header=quality_header,
            estimate=partial(self._estimate, self.fleet.snapshot()),
            model_floors=self._floors(),
            defaults=partial(self._defaults, self.fleet.snapshot()),
        )

    def _floors(self) -> Mapping[str, str]:
        """As configured, and as the fleet's operator says of single models."""
        wanted = self.fleet.snapshot().wanted
        if not wanted:
            return self.model_floors
        return {**self.model_floors, **{name: one.floor for name, one in wanted.items() if one.floor}}

    def _understand(self, dialect: Dialect, body: bytes, arrival: Arrival) -> tuple[Call, tuple[Asked, ...]]:
        """Beside the event loop, for a large body."""
        call = dialect.understand(body)
        return call, self._requests(call.wish, arrival)

    async def _completed(self, call: Call, progress: Progress, share: BodyShare) -> Wish:
        """The wish with what the body only names: what was said before, and images that lie elsewhere."""
        wish = call.wish
        if call.turn is not None and call.turn.previous:
            earlier = await self.kept.earlier(progress.principal, call.turn.previous)
            wish = await self.large.understand(earlier.items, partial(call.turn.resumed, earlier))
        if wanted := images_at(wish.messages):
            found = await self.images.fetch(wanted, budget_left(wish.messages), share.take)
            wish = replace(wish, messages=with_images(wish.messages, found))
        return wish

    def _requests(self, wish: Wish, arrival: Arrival) -> tuple[Asked, ...]:
        asked = requests_of(wish, arrival, self.quality)
        expected = round(self.expect_output(asked[0].request))
        if expected:
            asked = tuple(replace(one, request=replace(one.request, expected_output_tokens=expected)) for one in asked)
        return asked

    async def _keep(self, progress: Progress) -> None:
        """Before the answer's last bytes go out: whoever has read them may go on from it at once."""
        if progress.turn is not None:
            await self.kept.keep(progress.principal, progress.turn)

    def _defaults(self, fleet: FleetSnapshot, model: str) -> ModelDefaults:
        return self._book.of(model, fleet, self.clock.now())

    def _estimate(self, fleet: FleetSnapshot, model: str, text: TextFacts) -> int:
        """The fleet as it was when the body had come: a large one is understood beside the event loop."""
        return self.sizes.estimate(model, text, fleet)

    def _learn(self, asked: tuple[Asked, ...], heads: Mapping[int, AnswerHead]) -> None:
        for number, head in heads.items():
            request = asked[number].request
            if not isinstance(request.prompt, tuple):  # token ids were counted, not guessed
                self.sizes.learn(request.model.name, asked[number].text, head.prompt_tokens)

    def _told(self, head: AnswerHead, progress: Progress) -> Told:
        return Told(
            request_id=progress.request_id,
            model=head.model,
            head=head,
            created=int(self.clock.wall()),
            prompt_of=progress.prompt_of,
            elapsed_s=lambda: self.clock.now() - progress.arrived_at,
            ttft_s=lambda: None if (first := progress.first_token_at) is None else first - progress.arrived_at,
            waited_s=self.clock.now() - progress.arrived_at,
        )

    # -- answers -----------------------------------------------------------------------------------------

    async def _stream(
        self, exchange: Exchange, dialect: Dialect, writer: Writer, answering: Answering, progress: Progress
    ) -> None:
        assert progress.head is not None
        rates = self.authenticator.rate_headers(progress.principal)
        exchange.streaming = True
        if not exchange.started:
            shown = answer_headers(progress.request_id, progress.head, rates)
            await exchange.start(200, [*self._stream_headers(dialect), *shown])
        waiting = writer.opening()  # goes out with the first token: alone it would pass for one
        left, begun = len(progress.prompt_of), False
        try:
            async with Heartbeat(exchange, dialect.sign_of_life, self.config.sign_of_life_s) as beating:
                async for item in answering.chunks():
                    index, chunk = (0, item) if isinstance(item, Chunk) else item
                    if chunk.finish_reason is None:
                        data = writer.chunk(index, chunk)
                    else:
                        data = writer.ending(index, chunk, progress.usage_of(index, chunk, answering.heads))
                        left -= 1
                        if not left:
                            data += writer.closing(self._total(progress, answering.heads))
                            await self._keep(progress)
                    if progress.first_token_at is None and _says_something(chunk):
                        progress.first_token_at = self.clock.now()  # before the write: nobody has seen it earlier
                    if data:
                        if not begun:
                            begun = True
                            await beating.stop()
                            data = waiting + data
                            if exchange.direct is not None:
                                answering.pour_to(partial(_pour, exchange.direct, writer, progress, self.clock))
                        await exchange.write(data, more=left > 0)
                    progress.tokens[index] += chunk.token_count
                    if not left:
                        return
                raise WorkerFailed("the answer broke off without an end")
        except AllsortsError as error:
            progress.broke = True
            log.info("stream.failed", request_id=progress.request_id, code=error.code, reason=error.message)
            self.rejections.note(progress.request_id, error)
            await exchange.write(dialect.error_event(error), more=False)

    async def _whole(self, exchange: Exchange, writer: Writer, answering: Answering, progress: Progress) -> None:
        answers: dict[int, Collected] = {}
        left = len(progress.prompt_of)
        async for item in answering.chunks():
            index, chunk = (0, item) if isinstance(item, Chunk) else item
            if index not in answers:
                answers[index] = Collected(answering.heads[index])
            answers[index].add(chunk)
            progress.tokens[index] += chunk.token_count
            if progress.first_token_at is None and _says_something(chunk):
                progress.first_token_at = self.clock.now()
            if chunk.finish_reason is not None:
                answers[index].usage = progress.usage_of(index, chunk, answering.heads)
                left -= 1
                if not left:
                    break
        if left:
            raise WorkerFailed("the answer broke off without an end")
        whole = [one for _, one in sorted(answers.items())]
        body = writer.whole(whole, self._total(progress, answering.heads))
        await self._keep(progress)
        rates = self.authenticator.rate_headers(progress.principal)
        moves = [move for one in whole for move in one.continuations]
        await exchange.respond(200, body, headers=answer_headers(progress.request_id, whole[0].head, rates, moves))

    async def _count(self, exchange: Exchange, call: Call, answering: Answering, progress: Progress) -> None:
        """The worker has counted the prompt; it is not to go on."""
        assert progress.head is not None
        await answering.aclose()
        progress.usage = Usage()
        counted = Usage(prompt_tokens=progress.head.prompt_tokens)
        body = call.writing(self._told(progress.head, progress)).whole((), counted)
        rates = self.authenticator.rate_headers(progress.principal)
        await exchange.respond(200, body, headers=answer_headers(progress.request_id, progress.head, rates))

    # -- bookkeeping -------------------------------------------------------------------------------------

    def _total(self, progress: Progress, heads: Mapping[int, AnswerHead]) -> Usage:
        progress.usage = total_usage(progress, heads)
        return progress.usage

    def _account(self, progress: Progress, status: str) -> None:
        head, usage = progress.head, progress.usage
        if usage is None and head is not None:  # cut short: what was computed was computed
            usage = total_usage(progress, progress.heads)
        first = progress.first_token_at
        self.metrics.request_ended(
            model=progress.model,
            quantization=head.quantization if head else "",
            status=status,
            e2e_s=self.clock.now() - progress.arrived_at,
            ttft_s=None if first is None else first - progress.arrived_at,
            usage=usage,
        )
        if progress.reservation is not None:
            used = usage or Usage()
            progress.reservation.settle(used.prompt_tokens + used.completion_tokens)


def _pour(direct: DirectWrites, writer: Writer, progress: Progress, clock: Clock, text: str, tokens: int) -> bool:
    """Plain text of a single answer, from the session's reader to the socket: see ``RequestState.passes``."""
    if not direct.ready():
        return False
    if progress.first_token_at is None and text:
        progress.first_token_at = clock.now()
    data = writer.chunk(0, Chunk(text=text, token_count=tokens))
    if data:
        direct.write(data)
    progress.tokens[0] += tokens
    return True


def _says_something(chunk: Chunk) -> bool:
    return bool(chunk.text or chunk.tool_calls or chunk.reasoning or chunk.logprobs or chunk.echo or chunk.vectors)
