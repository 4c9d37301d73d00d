"""The HTTP surface over a small real pipeline in memory: it answers word by word, and keeps count of what runs."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import uvicorn

from protos.contract.ids import WorkerId
from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage
from router.app import RouterNode
from router.config import FleetConfig, HttpConfig
from router.domain.answer import AnswerHead, Chunk, Continuation, Pour
from router.domain.clock import Clock, SystemClock
from router.domain.principal import LOCAL, Principal, Scope
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.errors import AllsortsError, NotFound, UnknownModel
from router.fleet.membership import Membership
from router.fleet.model_control import ModelControl
from router.fleet.reconciling.desk import FleetDesk
from router.fleet.reconciling.reconciler import Reconciler
from router.http.admin.desired import DesiredAdmin
from router.http.admin.models import ModelsAdmin
from router.http.admin.operations import Admin, Archive
from router.http.admin.rejection_log import RejectionLog
from router.http.auth.meters import Reservation
from router.http.dialects.inference import Inference
from router.http.dialects.responses.kept import KeptResponses
from router.http.dialects.shared.model_name import default_floors
from router.http.fetching.fetcher import ImageFetcher
from router.http.fetching.rules import ImageHosts
from router.http.server.asgi import HttpApp
from router.http.server.body_budget import BodyBudget
from router.http.server.bounded_connection import BoundedConnection
from router.http.server.connection_book import ConnectionBook
from router.http.server.interfaces import Authenticator, Credentials, Explainer, FleetControl, FleetReader, Pipeline
from router.scheduling.claims import Claims
from router.scheduling.placement.quality import TabulatedQuality
from router.state.store import BackedStore
from router.telemetry.metrics import Metrics
from tests.support import fleets
from tests.support.memory_backend import MemoryBackend
from tests.support.until import until_async

WORDS = ("Par", "is ", "is ", "the ", "cap", "ital.")
MOVE = Continuation(
    from_node="mac",
    to_node="h100",
    from_quantization="q4_k_m",
    to_quantization="q8_0",
    at_token=3,
    reason="the session broke",
)


@dataclass
class WordPipeline:
    """Answers every request for model ``m`` with ``WORDS``. ``gate`` holds the answer back before its first word."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    accept: asyncio.Event = field(default_factory=asyncio.Event)
    refuse_with: Exception | None = None
    break_with: AllsortsError | None = None  # after two words
    endless: bool = False
    script: tuple[Chunk, ...] = ()  # said instead of the words
    moves: tuple[Continuation, ...] = ()
    requests: list[InferenceRequest] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.accept.set()

    async def answer(self, request: InferenceRequest) -> "WordAnswer":
        """Waits for ``accept``, then answers or raises ``error``."""
        self.requests.append(request)
        self.running.add(request.request_id)
        self.started.set()
        try:
            await self.accept.wait()
            if request.model.name != "m":
                raise UnknownModel(f"The model '{request.model}' does not exist", param="model")
            if self.refuse_with is not None:
                raise self.refuse_with
        except BaseException:
            self.end(request)
            raise
        return WordAnswer(self, request)

    def end(self, request: InferenceRequest) -> None:
        """Nothing of this request runs any more."""
        self.running.discard(request.request_id)
        self.ended.set()


class WordAnswer:
    """One answer of a WordPipeline."""

    def __init__(self, pipeline: WordPipeline, request: InferenceRequest) -> None:
        self._pipeline = pipeline
        self._request = request
        self._chunks = self._generate()
        self.head = AnswerHead(
            request_id=request.request_id,
            worker_id=WorkerId("w1"),
            node="mac",
            model="m",
            quantization=request.model.pinned or "q4_k_m",
            prompt_tokens=7,
        )

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    def pour_to(self, pour: Pour) -> None:
        """Every chunk goes the long way."""

    async def aclose(self) -> None:
        """Stops the generation."""
        await self._chunks.aclose()
        self._pipeline.end(self._request)

    async def _generate(self) -> AsyncGenerator[Chunk, None]:
        pipeline, sampling = self._pipeline, self._request.sampling
        for chunk in pipeline.script:
            await pipeline.gate.wait()
            yield chunk
        if pipeline.script:
            return
        words = WORDS[: sampling.max_tokens]
        for index, word in enumerate(words):
            await pipeline.gate.wait()
            if pipeline.break_with is not None and index == 2:
                raise pipeline.break_with
            logprobs = (_logprob(word, sampling.top_logprobs),) if sampling.logprobs else ()
            yield Chunk(text=word, token_count=1, logprobs=logprobs)
        while pipeline.endless:
            yield Chunk(text="again " * 1000, token_count=1)
            await asyncio.sleep(0)
        yield Chunk(
            finish_reason=FinishReason.STOP if len(words) == len(WORDS) else FinishReason.LENGTH,
            usage=Usage(prompt_tokens=7, completion_tokens=len(words), cached_tokens=2),
            continuations=pipeline.moves,
        )


def _logprob(word: str, top: int) -> TokenLogprob:
    likeliest = ((5, word.encode(), -0.5), (6, b"\xc3", float("-inf")))
    rivals = tuple(TopLogprob(token_id=one, token=token, logprob=logprob) for one, token, logprob in likeliest)
    return TokenLogprob(token_id=5, token=word.encode(), logprob=-0.5, top=rivals[:top])


class StillFleet:
    """One worker, which does not change. Also everything an operator does, written down."""

    def __init__(self) -> None:
        self._snapshot = fleets.snapshot(fleets.worker("mac", fleets.instance("q4_k_m")), at=1.0)
        self.done: list[tuple[Any, ...]] = []
        self.keys: dict[str, dict[str, Any]] = {}

    def snapshot(self) -> FleetSnapshot:
        return self._snapshot

    def known_models(self) -> tuple[str, ...]:
        return ("m", "away")

    async def drain(self, node: str, deadline_s: float) -> None:
        self._do("drain", node, deadline_s)

    async def undrain(self, node: str) -> None:
        self._do("undrain", node)

    async def cordon(self, node: str) -> None:
        self._do("cordon", node)

    async def revoke(self, node: str, reason: str) -> None:
        self._do("revoke", node, reason)

    async def refuse_model(self, node: str, model: str) -> None:
        self._do("refuse_model", node, model)

    def _do(self, what: str, node: str, *more: Any) -> None:
        if node != "mac":
            raise NotFound(f"no node '{node}' in the fleet; there are: mac")
        self.done.append((what, node, *more))

    async def create_token(
        self, *, ttl_s: float, uses: int, labels: Mapping[str, str], models: Sequence[str] = ()
    ) -> dict[str, Any]:
        return {"token": "t", "ttl_s": ttl_s, "uses": uses, "labels": dict(labels), "models": list(models)}

    async def create_key(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        key_id = f"key-{len(self.keys)}"
        self.keys[key_id] = {"key_id": key_id, "name": rules["name"]}
        return {**self.keys[key_id], "key": "sk-as-secret"}

    async def list_keys(self) -> list[dict[str, Any]]:
        return list(self.keys.values())

    async def delete_key(self, key_id: str) -> None:
        if self.keys.pop(key_id, None) is None:
            raise NotFound(f"no API key '{key_id}'")

    def explain(self, request_id: str) -> dict[str, Any] | None:
        return {"request_id": request_id, "candidates": []} if request_id == "req-known" else None


class OpenAuthenticator:
    """Lets everyone in as the local user."""

    async def authenticate(self, authorization: str | None, scope: Scope, *, counted: bool = True) -> Principal:
        return LOCAL

    def rate_headers(self, principal: Principal) -> tuple[tuple[bytes, bytes], ...]:
        return ()

    def reserve(self, principal: Principal, tokens: int) -> Reservation:
        """No limits, nothing to count."""
        return Reservation(None, tokens)


def http_app(
    *,
    pipeline: Pipeline,
    fleet: FleetReader,
    control: FleetControl,
    credentials: Credentials,
    explainer: Explainer,
    authenticator: Authenticator | None = None,
    metrics: Metrics | None = None,
    config: HttpConfig | None = None,
    clock: Clock | None = None,
    ready: tuple[bool, str] = (True, ""),
    replica: str = "router-0",
    replicas: int = 1,
    archive: Archive | None = None,
    images: ImageFetcher | None = None,
) -> HttpApp:
    """An ``HttpApp`` put together as ``router.app`` does it, without a placer's guess of output tokens."""
    authenticator, metrics = authenticator or OpenAuthenticator(), metrics or Metrics()
    config, clock, rejections = config or HttpConfig(), clock or SystemClock(), RejectionLog()
    claims = Claims()
    desk = FleetDesk(membership=Membership(FleetConfig(), clock, claims), claims=claims, clock=clock)
    wishes = Reconciler(store=BackedStore(MemoryBackend()), desk=desk, clock=clock)
    inference = Inference(
        waits=wishes,
        pipeline=pipeline,
        fleet=fleet,
        authenticator=authenticator,
        metrics=metrics,
        config=config,
        clock=clock,
        quality=TabulatedQuality(),
        expect_output=lambda request: 0.0,
        model_floors=default_floors(config.quality_floors),
        rejections=rejections,
        bodies=BodyBudget(config.bodies_limit_bytes),
        images=images or ImageFetcher(hosts=ImageHosts(config.image_hosts), deadline_s=config.image_fetch_s),
        kept=KeptResponses(store=BackedStore(MemoryBackend()), clock=clock, config=config),
    )
    admin = Admin(
        fleet=fleet,
        control=control,
        credentials=credentials,
        explainer=explainer,
        config=config,
        drain_deadline_s=30.0,
        replica=replica,
        replicas=replicas,
        archive=archive,
        rejections=rejections,
    )
    return HttpApp(
        inference=inference,
        admin=admin,
        desired=DesiredAdmin(wishes=wishes, config=config),
        models=ModelsAdmin(
            files=ModelControl(membership=Membership(FleetConfig(), clock, Claims()), head=lambda: ()), config=config
        ),
        rejections=rejections,
        fleet=fleet,
        authenticator=authenticator,
        metrics=metrics,
        config=config,
        clock=clock,
        ready=lambda: ready,
    )


@dataclass
class Surface:
    """The app and what it stands on."""

    app: HttpApp
    pipeline: WordPipeline
    fleet: StillFleet
    metrics: Metrics

    def client(self) -> httpx.AsyncClient:
        """A client that calls the app in process; whole answers only."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")

    async def chat(self, **changes: Any) -> httpx.Response:
        """POST a chat; ``changes`` go into the body, None removes a field."""
        body = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of France?"}], **changes}
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=body)


def surface(
    *,
    config: HttpConfig | None = None,
    authenticator: Authenticator | None = None,
    ready: tuple[bool, str] = (True, ""),
    images: ImageFetcher | None = None,
    **pipeline: Any,
) -> Surface:
    """A surface over a fresh pipeline and fleet."""
    words, fleet, metrics = WordPipeline(**pipeline), StillFleet(), Metrics()
    app = http_app(
        pipeline=words,
        fleet=fleet,
        control=fleet,
        credentials=fleet,
        explainer=fleet,
        authenticator=authenticator,
        metrics=metrics,
        config=config,
        ready=ready,
        images=images,
    )
    return Surface(app, words, fleet, metrics)


def events(text: str) -> list[Any]:
    """The data of a stream's events, JSON decoded; ``[DONE]`` stays text."""
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in parts]


@asynccontextmanager
async def on_loopback(app: HttpApp | RouterNode, *, book: ConnectionBook | None = None) -> AsyncIterator[str]:
    """The app under uvicorn on a free port; yields its URL, and has stopped when the block ends."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(BoundedConnection, book=book),
            host="127.0.0.1",
            port=0,
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
    task = asyncio.create_task(server.serve())
    try:
        await until_async(lambda: server.started or (task.done() and task.result()), "uvicorn serves", every_s=0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
