"""The HTTP surface as one raw ASGI 3 callable: routes, scopes, and the edge where errors become answers.

No framework: a request costs one route look-up, and a streamed token one ``send``. Lifespan events are handled by
``router.app``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import structlog

from protos.contract.ids import RequestId
from router.config import HttpConfig
from router.domain.clock import Clock
from router.domain.ids import new_request_id
from router.domain.principal import Principal, Scope
from router.errors import AllsortsError, ClientGone, NotAllowed, NotAuthenticated, RateLimited, forget_frames
from router.http.access.hosts import AllowedHosts
from router.http.access.origins import AllowedOrigins
from router.http.access.refusal_pace import RefusalPace
from router.http.admin.desired import DesiredAdmin
from router.http.admin.models import ModelsAdmin
from router.http.admin.operations import Admin
from router.http.admin.rejection_log import RejectionLog
from router.http.dialects.dialect import Dialect
from router.http.dialects.inference import Inference
from router.http.dialects.responses.kept import KeptResponses
from router.http.dialects.table import dialects
from router.http.public.handlers import Handler, Public
from router.http.public.ollama_models import OllamaModels
from router.http.server import exchange as wire
from router.http.server.errors import error_body, error_headers, unexpected
from router.http.server.exchange import Exchange
from router.http.server.interfaces import Authenticator, FleetReader
from router.http.server.routing import Routes
from router.telemetry.metrics import Metrics

log = structlog.get_logger()


Owned = Callable[[Principal, Exchange, str], Awaitable[Any]]
"""As ``Handler``, and told who asks: what it answers is the caller's own."""


@dataclass(frozen=True, slots=True)
class Route:
    """What one method on one path does. ``scope`` None: open to all."""

    scope: Scope | None
    handler: Handler | None = None
    dialect: Dialect | None = None  # without a handler: infers
    owned: Owned | None = None  # a handler that is told who asks


class HttpApp:
    """``ready`` says whether requests can be served, and why not."""

    def __init__(
        self,
        *,
        inference: Inference,
        admin: Admin,
        desired: DesiredAdmin,
        models: ModelsAdmin,
        rejections: RejectionLog,
        fleet: FleetReader,
        authenticator: Authenticator,
        metrics: Metrics,
        config: HttpConfig,
        clock: Clock,
        ready: Callable[[], tuple[bool, str]],
    ) -> None:
        self._inference = inference
        self._rejections = rejections
        self._config = config
        self._authenticator = authenticator
        self._clock = clock
        self._metrics = metrics
        ollama = OllamaModels(fleet=fleet, config=config, clock=clock, waits=inference.waits)
        public = Public(fleet=fleet, metrics=metrics, config=config, clock=clock, ready=ready)
        spoken = dialects(
            fleet.known_models, strict=config.unknown_fields == "refuse", keeps=config.responses_kept_s > 0
        )
        self.routes = _all_routes(admin, desired, models, public, ollama, inference.kept, spoken)
        self._hosts = AllowedHosts(config.allowed_hosts)
        self._origins = AllowedOrigins(config.cors_origins)
        self._refusals = RefusalPace(clock.now)
        metrics.watch_fleet(fleet.snapshot)

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is spoken here, not {scope['type']}")
        arrived_at = self._clock.now()
        exchange = Exchange(scope, receive, send, stall_s=self._config.stall_s)
        request_id = new_request_id()
        exchange.more_headers = self._origins.headers(exchange.header(b"origin"))
        dialect: Dialect | None = None
        try:
            route, rest, methods = self.routes.find(exchange.method, exchange.path)
            if route is None:
                await self._preflight(exchange, methods)
                return
            dialect = route.dialect
            if dialect is not None:
                exchange.takes_any_type = dialect.any_type
                request_id = new_request_id(dialect.id_prefix)
            principal = await self._authenticate(exchange, route)
            if route.handler is not None:
                await self._answer(exchange, route.handler, rest, request_id)
            elif route.owned is not None and principal is not None:
                await self._answer(exchange, partial(route.owned, principal), rest, request_id)
            elif dialect is not None and principal is not None:
                await self._infer(exchange, dialect, principal, request_id, arrived_at)
        except ClientGone as gone:
            log.info("request.aborted", request_id=request_id, reason=gone.message)
        except AllsortsError as error:
            await self._fail(exchange, dialect, error, request_id)
        except Exception:  # the edge: logs, answers, and lives on
            log.exception("request.failed", request_id=request_id, path=exchange.path[:200])
            await self._fail(exchange, dialect, unexpected(), request_id)

    async def _authenticate(self, exchange: Exchange, route: Route) -> Principal | None:
        if route.scope is None:
            return None
        try:
            principal = await self._authenticator.authenticate(
                _credential(exchange), route.scope, counted=route.handler is None and route.owned is None
            )
        except (NotAuthenticated, NotAllowed) as refusal:
            self._metrics.key_refused(refusal.code)
            log.warning("key.refused", peer=exchange.peer, code=refusal.code, reason=refusal.message)
            raise
        if not principal.key_id:
            self._hosts.refuse_foreign(exchange.header(b"host"))
            self._origins.refuse_foreign(exchange.header(b"origin"), own_only=route.scope is not Scope.SERVE)
        return principal

    async def _preflight(self, exchange: Exchange, methods: tuple[str, ...]) -> None:
        """OPTIONS, on every path: what may be asked, and by which pages."""
        headers: list[tuple[bytes, bytes]] = [(b"allow", ", ".join(methods).encode())]
        origin = exchange.header(b"origin")
        if origin is not None and self._origins.allows(origin):
            headers += self._origins.preflight(
                methods,
                exchange.header(b"access-control-request-headers"),
                private_network=exchange.header(b"access-control-request-private-network") == "true",
            )
        await exchange.respond(200, b"", content_type=b"text/plain", headers=headers)

    async def _infer(
        self, exchange: Exchange, dialect: Dialect, principal: Principal, request_id: RequestId, arrived_at: float
    ) -> None:
        """As ``Inference.serve``; errors carry the caller's rate headers."""
        try:
            await self._inference.serve(exchange, dialect, principal, request_id, arrived_at)
        except ClientGone:
            raise
        except AllsortsError as error:
            await self._fail(exchange, dialect, error, request_id, principal)

    async def _answer(self, exchange: Exchange, handler: Handler, rest: str, request_id: RequestId) -> None:
        value = await handler(exchange, rest)
        status, body, kind = value if isinstance(value, tuple) else (200, msgspec.json.encode(value), wire.JSON)
        await exchange.respond(status, body, content_type=kind, headers=((b"x-request-id", request_id.encode()),))

    async def _fail(
        self,
        exchange: Exchange,
        dialect: Dialect | None,
        error: AllsortsError,
        request_id: RequestId,
        principal: Principal | None = None,
    ) -> None:
        """Tell the client, in whichever way is left, in its own dialect; whose fault it is again and again, later."""
        self._rejections.note(request_id, error)
        forget_frames(error)
        try:
            if not exchange.started:
                if 400 <= error.http_status < 500:
                    await self._wait_its_turn(error, exchange, principal)
                more = self._rate_headers(error, principal)
                headers = ((b"x-request-id", request_id.encode()), *error_headers(error), *more)
                body = error_body(error) if dialect is None else dialect.error(error)
                await exchange.respond(error.http_status, body, headers=headers)
            elif exchange.streaming and dialect is not None:
                await exchange.write(dialect.error_event(error), more=False)
        except (ClientGone, OSError):
            log.info("request.aborted", request_id=request_id, reason="the client hung up before its error")

    def _rate_headers(self, error: AllsortsError, principal: Principal | None) -> wire.Headers:
        """Who is limited hears of it by the error itself."""
        if principal is None or isinstance(error, RateLimited):
            return ()
        return self._authenticator.rate_headers(principal)

    async def _wait_its_turn(self, error: AllsortsError, exchange: Exchange, principal: Principal | None) -> None:
        """By its key; by its address, where it has none or a wrong one."""
        key_id = error.asker if isinstance(error, RateLimited) else principal and principal.key_id
        wait_s = self._refusals.wait_s(key_id or exchange.peer)
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)
            error.waited(wait_s)


def _credential(exchange: Exchange) -> str | None:
    """An Authorization header; Anthropic's clients have their key in a header of its own."""
    given = exchange.header(b"authorization")
    key = exchange.header(b"x-api-key")
    return given if given is not None or key is None else f"Bearer {key}"


def _all_routes(
    admin: Admin,
    desired: DesiredAdmin,
    models: ModelsAdmin,
    public: Public,
    ollama: OllamaModels,
    kept: KeptResponses,
    spoken: Mapping[str, Dialect],
) -> Routes[Route]:
    like = spoken["/api/chat"]  # whose errors its other paths have, too
    serve, observe, change = (partial(Route, scope) for scope in (Scope.SERVE, Scope.OBSERVE, Scope.ADMIN))
    exact = {
        **{path: {"POST": serve(dialect=dialect)} for path, dialect in spoken.items()},
        "/v1/models": {"GET": serve(public.models)},
        "/api/tags": {"GET": serve(ollama.tags, like)},
        "/api/ps": {"GET": serve(ollama.running, like)},
        "/api/show": {"POST": serve(ollama.show, like)},
        "/api/version": {"GET": Route(None, ollama.version, like)},
        "/": {"GET": Route(None, public.greeting)},
        "/healthz": {"GET": Route(None, public.alive)},
        "/ping": {"GET": Route(None, public.alive)},
        "/health": {"GET": Route(None, public.readiness)},
        "/readyz": {"GET": Route(None, public.readiness)},
        "/version": {"GET": Route(None, public.version)},
        "/openapi.json": {"GET": Route(None, public.openapi_json)},
        "/docs": {"GET": Route(None, public.docs)},
        "/metrics": {"GET": observe(public.metrics_text)},
        "/admin/fleet": {"GET": observe(admin.show_fleet)},
        "/admin/drain": {"POST": change(admin.drain)},
        "/admin/undrain": {"POST": change(admin.undrain)},
        "/admin/cordon": {"POST": change(admin.cordon)},
        "/admin/revoke": {"POST": change(admin.revoke)},
        "/admin/tokens": {"POST": change(admin.create_token)},
        "/admin/desired": {"GET": observe(desired.show), "POST": change(desired.apply)},
        "/admin/desired/plan": {"POST": change(desired.compare)},
        "/admin/models": {"GET": observe(models.show)},
        "/admin/models/pull": {"POST": change(models.pull)},
        "/admin/models/remove": {"POST": change(models.remove)},
        "/admin/status": {"GET": observe(desired.status)},
        "/admin/keys": {"GET": change(admin.list_keys), "POST": change(admin.create_key)},
    }
    prefixed = {
        "/v1/models/": {"GET": serve(public.model)},
        "/v1/responses/": {"GET": serve(owned=kept.show), "DELETE": serve(owned=kept.forget)},
        "/admin/keys/": {"DELETE": change(admin.delete_key)},
        "/admin/explain/": {"GET": observe(admin.explain)},
    }
    return Routes(exact, prefixed)
