"""The HTTP surface as one raw ASGI 3 callable: routes, scopes, and the edge where errors become answers.

No framework: a request costs one route look-up, and a streamed token one ``send``. Lifespan events are handled by
``router.app``.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import msgspec
import structlog

from protos.contract.ids import RequestId
from router.config import HttpConfig
from router.domain.clock import Clock
from router.domain.ids import new_request_id
from router.domain.principal import Principal, Scope
from router.domain.request import RequestKind
from router.errors import AllsortsError, ClientGone, UnknownModel
from router.http.access.hosts import AllowedHosts
from router.http.access.origins import AllowedOrigins
from router.http.admin.operations import Admin
from router.http.admin.rejection_log import RejectionLog
from router.http.dialects.inference import Inference
from router.http.dialects.openai_bodies import model_bodies
from router.http.openapi.document import document
from router.http.server import exchange as wire
from router.http.server.errors import error_body, error_event, error_headers, unexpected
from router.http.server.exchange import Exchange
from router.http.server.interfaces import Authenticator, FleetReader
from router.http.server.routing import Routes
from router.telemetry.metrics import CONTENT_TYPE, Metrics

log = structlog.get_logger()

Handler = Callable[[Exchange, str], Awaitable[Any]]
"""Takes the exchange and what follows a prefix route; returns a JSON-ready value."""


@dataclass(frozen=True, slots=True)
class Route:
    """What one method on one path does. ``scope`` None: open to all."""

    scope: Scope | None
    handler: Handler | None = None
    inference: RequestKind | None = None


class HttpApp:
    """``ready`` says whether requests can be served, and why not."""

    def __init__(
        self,
        *,
        inference: Inference,
        admin: Admin,
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
        self._fleet = fleet
        self._authenticator = authenticator
        self._metrics = metrics
        self._clock = clock
        self._ready = ready
        self._started_at = int(clock.wall())
        self._openapi = msgspec.json.encode(document())
        self.routes = self._all_routes(admin)
        self._hosts = AllowedHosts(config.allowed_hosts)
        self._origins = AllowedOrigins(config.cors_origins)
        self._version = msgspec.json.encode({"version": metadata.version("allsorts")})
        metrics.watch_fleet(fleet.snapshot)

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is spoken here, not {scope['type']}")
        arrived_at = self._clock.now()
        exchange = Exchange(scope, receive, send, stall_s=self._config.stall_s)
        request_id = new_request_id()
        exchange.more_headers = self._origins.headers(exchange.header(b"origin"))
        try:
            route, rest, methods = self.routes.find(exchange.method, exchange.path)
            if route is None:
                await self._preflight(exchange, methods)
                return
            if route.inference is not None:
                prefix = "chatcmpl" if route.inference is RequestKind.CHAT else "cmpl"
                request_id = new_request_id(prefix)
            principal = await self._authenticate(exchange, route)
            if route.inference is not None:
                assert principal is not None
                await self._infer(exchange, route.inference, principal, request_id, arrived_at)
            elif route.handler is not None:
                await self._answer(exchange, route.handler, rest, request_id)
        except ClientGone as gone:
            log.info("request.aborted", request_id=request_id, reason=gone.message)
        except AllsortsError as error:
            await self._fail(exchange, error, request_id)
        except Exception:  # the edge: logs, answers, and lives on
            log.exception("request.failed", request_id=request_id, path=exchange.path[:200])
            await self._fail(exchange, unexpected(), request_id)

    async def _authenticate(self, exchange: Exchange, route: Route) -> Principal | None:
        if route.scope is None:
            return None
        principal = await self._authenticator.authenticate(
            exchange.header(b"authorization"), route.scope, counted=route.inference is not None
        )
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
        self, exchange: Exchange, kind: RequestKind, principal: Principal, request_id: RequestId, arrived_at: float
    ) -> None:
        """As ``Inference.serve``; errors carry the caller's rate headers."""
        try:
            await self._inference.serve(exchange, kind, principal, request_id, arrived_at)
        except ClientGone:
            raise
        except AllsortsError as error:
            await self._fail(exchange, error, request_id, self._authenticator.rate_headers(principal))

    async def _answer(self, exchange: Exchange, handler: Handler, rest: str, request_id: RequestId) -> None:
        value = await handler(exchange, rest)
        status, body, kind = value if isinstance(value, tuple) else (200, msgspec.json.encode(value), wire.JSON)
        await exchange.respond(status, body, content_type=kind, headers=((b"x-request-id", request_id.encode()),))

    async def _fail(
        self, exchange: Exchange, error: AllsortsError, request_id: RequestId, more: wire.Headers = ()
    ) -> None:
        """Tell the client, in whichever way is left."""
        self._rejections.note(request_id, error)
        try:
            if not exchange.started:
                headers = ((b"x-request-id", request_id.encode()), *error_headers(error), *more)
                await exchange.respond(error.http_status, error_body(error), headers=headers)
            elif exchange.streaming:
                await exchange.write(error_event(error), more=False)
        except (ClientGone, OSError):
            log.info("request.aborted", request_id=request_id, reason="the client hung up before its error")

    # -- routes ------------------------------------------------------------------------------------------

    def _all_routes(self, admin: Admin) -> Routes[Route]:
        serve, observe, change = (partial(Route, scope) for scope in (Scope.SERVE, Scope.OBSERVE, Scope.ADMIN))
        exact = {
            "/v1/chat/completions": {"POST": serve(inference=RequestKind.CHAT)},
            "/v1/completions": {"POST": serve(inference=RequestKind.COMPLETION)},
            "/v1/models": {"GET": serve(self._models)},
            "/healthz": {"GET": Route(None, self._healthz)},
            "/health": {"GET": Route(None, self._readyz)},
            "/ping": {"GET": Route(None, self._healthz)},
            "/version": {"GET": Route(None, self._version_json)},
            "/readyz": {"GET": Route(None, self._readyz)},
            "/openapi.json": {"GET": Route(None, self._openapi_json)},
            "/metrics": {"GET": observe(self._metrics_text)},
            "/admin/fleet": {"GET": observe(admin.show_fleet)},
            "/admin/drain": {"POST": change(admin.drain)},
            "/admin/undrain": {"POST": change(admin.undrain)},
            "/admin/cordon": {"POST": change(admin.cordon)},
            "/admin/revoke": {"POST": change(admin.revoke)},
            "/admin/tokens": {"POST": change(admin.create_token)},
            "/admin/keys": {"GET": change(admin.list_keys), "POST": change(admin.create_key)},
        }
        prefixed = {
            "/v1/models/": {"GET": serve(self._model)},
            "/admin/keys/": {"DELETE": change(admin.delete_key)},
            "/admin/explain/": {"GET": observe(admin.explain)},
        }
        return Routes(exact, prefixed)

    async def _models(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        return {"object": "list", "data": list(self._model_bodies().values())}

    async def _model(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        body = self._model_bodies().get(rest)
        if body is None:
            raise UnknownModel(
                f"The model '{rest[:200]}' does not exist; GET /v1/models lists those that do", param="model"
            )
        return body

    def _model_bodies(self) -> dict[str, dict[str, Any]]:
        return model_bodies(self._fleet.snapshot(), self._fleet.known_models(), self._started_at)

    async def _healthz(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        return {"status": "ok"}

    async def _readyz(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        ready, reason = self._ready()
        body = msgspec.json.encode({"status": "ready" if ready else "not ready", "reason": reason})
        return (200 if ready else 503), body, wire.JSON

    async def _version_json(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        return 200, self._version, wire.JSON

    async def _metrics_text(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        return 200, self._metrics.render(), CONTENT_TYPE

    async def _openapi_json(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        return 200, self._openapi, wire.JSON
