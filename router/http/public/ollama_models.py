"""Ollama's list of models, and what it says of each: read from the fleet as it is now."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from router.config import HttpConfig
from router.domain.clock import Clock
from router.errors import InvalidRequest, UnknownModel
from router.http.dialects.ollama.models import OllamaVersion, running, shown, tags
from router.http.dialects.ollama.names import Names
from router.http.dialects.ollama.schema import ShowRequest
from router.http.dialects.shared.catalogue import Listing, ModelFacts
from router.http.public.handlers import VERSION
from router.http.server.decoding import decode
from router.http.server.exchange import Exchange
from router.http.server.interfaces import FleetReader, ModelWaits

T = TypeVar("T")


class OllamaModels:
    """Handlers."""

    def __init__(self, *, fleet: FleetReader, config: HttpConfig, clock: Clock, waits: ModelWaits) -> None:
        self._clock = clock
        self._waits = waits
        self._fleet = fleet
        self._config = config
        self._listing = Listing()
        self._names = Names(fleet.known_models)
        self._started_at = int(clock.wall())
        self._asked = msgspec.json.Decoder(ShowRequest)

    async def tags(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /api/tags."""
        return await self._listed(lambda found: tags(found, self._started_at))

    async def running(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /api/ps."""
        stays, now = self._waits.stays(), self._clock.wall()
        return await self._listed(lambda found: running(found, stays, now))

    async def show(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /api/show."""
        body = await exchange.body(self._config.body_limit_bytes, self._config.body_deadline_s)
        asked = decode(self._asked, body)
        name = asked.model or asked.name
        if not name:
            raise InvalidRequest("model is required", param="model")
        ours = self._names.ours(name)
        facts = await self._listed(lambda found: found.get(ours))
        if facts is None:
            raise UnknownModel(f"model '{name[:200]}' not found", param="model")
        return shown(facts, self._started_at)

    async def version(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /api/version."""
        return OllamaVersion(version=VERSION)

    async def _listed(self, make: Callable[[dict[str, ModelFacts]], T]) -> T:
        return await self._listing.of(self._fleet.snapshot(), self._fleet.known_models(), make)
