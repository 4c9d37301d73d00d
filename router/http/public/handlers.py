"""What is answered beside inference and administration: the models there are, health, version, metrics, documents."""

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any, TypeVar

import msgspec

from router.config import HttpConfig
from router.domain.clock import Clock
from router.errors import UnknownModel
from router.http.dialects.shared.catalogue import Listing, ModelFacts
from router.http.dialects.shared.sampling_defaults import defaults_among
from router.http.openapi.docs_page import DOCS_PAGE
from router.http.openapi.document import document
from router.http.public.models import ModelBody, ModelList, model_body
from router.http.server.exchange import JSON, Exchange
from router.http.server.interfaces import FleetReader
from router.telemetry.metrics import CONTENT_TYPE, Metrics

T = TypeVar("T")

Handler = Callable[[Exchange, str], Awaitable[Any]]
"""Takes the exchange and what follows a prefix route; returns a JSON-ready value, or status, body and content type."""

VERSION = metadata.version("allsorts")
HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"


class Public:
    """Handlers. ``ready`` says whether requests can be served, and why not."""

    def __init__(
        self,
        *,
        fleet: FleetReader,
        metrics: Metrics,
        config: HttpConfig,
        clock: Clock,
        ready: Callable[[], tuple[bool, str]],
    ) -> None:
        self._fleet = fleet
        self._config = config
        self._metrics = metrics
        self._ready = ready
        self._listing = Listing()
        self._started_at = int(clock.wall())
        self._openapi = msgspec.json.encode(document(VERSION))

    async def models(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /v1/models."""
        return 200, await self._listed(self._list), JSON

    async def model(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /v1/models/{model}."""
        facts = await self._listed(lambda found: found.get(rest))
        if facts is None:
            raise UnknownModel(
                f"The model '{rest[:200]}' does not exist; GET /v1/models lists those that do", param="model"
            )
        return self._body(facts)

    async def alive(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /healthz, /ping: the process lives."""
        return {"status": "ok"}

    async def readiness(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /readyz, /health."""
        ready, reason = self._ready()
        body = msgspec.json.encode({"status": "ready" if ready else "not ready", "reason": reason})
        return (200 if ready else 503), body, JSON

    async def version(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /version."""
        return {"version": VERSION}

    async def greeting(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /: what a person or a client that looks for a server sees."""
        return 200, f"Allsorts {VERSION} is running; its API is described at /docs\n".encode(), TEXT

    async def metrics_text(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /metrics."""
        return 200, self._metrics.render(), CONTENT_TYPE

    async def openapi_json(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /openapi.json."""
        return 200, self._openapi, JSON

    async def docs(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /docs."""
        return 200, DOCS_PAGE, HTML

    def _body(self, facts: ModelFacts) -> ModelBody:
        defaults = defaults_among(facts.instances, facts.name, self._config.sampling)
        return model_body(facts, self._started_at, defaults)

    def _list(self, found: dict[str, ModelFacts]) -> bytes:
        return msgspec.json.encode(ModelList(data=[self._body(one) for one in found.values()]))

    async def _listed(self, make: Callable[[dict[str, ModelFacts]], T]) -> T:
        return await self._listing.of(self._fleet.snapshot(), self._fleet.known_models(), make)
