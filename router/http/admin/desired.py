"""What an operator wants of the fleet: shown, compared, applied; and where the fleet stands on its way there."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from router.config import HttpConfig
from router.fleet.desired.file import check_state
from router.fleet.desired.values import DesiredState
from router.fleet.planning.foresight import Foreseen
from router.http.admin.schemas import DesiredRequest
from router.http.server.decoding import decode
from router.http.server.exchange import Exchange
from router.http.server.interfaces import FleetWishes

BODY_LIMIT_BYTES = 1024 * 1024
"""256 models with all that can be said of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredAdmin:
    """Handlers that return JSON-ready values."""

    wishes: FleetWishes
    config: HttpConfig

    async def show(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /admin/desired."""
        await self.wishes.refresh()
        return {"version": self.wishes.version, "state": msgspec.to_builtins(self.wishes.desired)}

    async def compare(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/desired/plan: the difference, and nothing is done."""
        asked = await self._read(exchange)
        await self.wishes.refresh()
        return {"version": self.wishes.version, **difference_body(await self._foreseen(asked.state))}

    async def apply(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/desired."""
        asked = await self._read(exchange)
        version = await self.wishes.apply(asked.state, asked.version)
        return {"version": version}

    async def status(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /admin/status."""
        return await self.wishes.status()

    async def _foreseen(self, state: DesiredState) -> Foreseen:
        """Beside the event loop: of many models and nodes it takes a while."""
        check_state(state)
        observed = self.wishes.observe()
        return await asyncio.to_thread(self.wishes.foresee, state, observed)

    async def _read(self, exchange: Exchange) -> DesiredRequest:
        body = await exchange.body(BODY_LIMIT_BYTES, self.config.body_deadline_s)
        return decode(msgspec.json.Decoder(DesiredRequest), body)


def difference_body(foreseen: Foreseen) -> dict[str, Any]:
    """JSON-ready."""
    return {"changes": [msgspec.to_builtins(one) for one in foreseen.changes], "blocked": dict(foreseen.blocked)}
