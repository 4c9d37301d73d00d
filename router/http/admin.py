"""What operators ask and do: the fleet, drains and cordons, tokens, keys, and why a request went where it went."""

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from router.config import HttpConfig
from router.errors import NotFound
from router.http.decoding import decode
from router.http.exchange import Exchange
from router.http.fleet_view import fleet_body
from router.http.interfaces import Credentials, Explainer, FleetControl, FleetReader
from router.http.schemas import DrainRequest, NodeRequest, RevokeRequest, TokenRequest
from router.state.api_keys import KeyRules

T = TypeVar("T")

DRAIN_DEADLINE_S = 30.0
"""When the operator names none."""

LONGEST_ID = 128
"""Characters of an unknown id that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Handlers that return JSON-ready values. They raise AllsortsError; the app translates it."""

    fleet: FleetReader
    control: FleetControl
    credentials: Credentials
    explainer: Explainer
    config: HttpConfig
    drain_deadline_s: float = DRAIN_DEADLINE_S

    async def show_fleet(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /admin/fleet."""
        return fleet_body(self.fleet.snapshot())

    async def drain(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/drain."""
        asked = await self._read(exchange, DrainRequest)
        deadline_s = self.drain_deadline_s if asked.deadline_s is None else asked.deadline_s
        await self.control.drain(asked.node, deadline_s)
        return {"node": asked.node, "deadline_s": deadline_s}

    async def undrain(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/undrain."""
        asked = await self._read(exchange, NodeRequest)
        await self.control.undrain(asked.node)
        return {"node": asked.node}

    async def cordon(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/cordon."""
        asked = await self._read(exchange, NodeRequest)
        await self.control.cordon(asked.node)
        return {"node": asked.node}

    async def revoke(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/revoke."""
        asked = await self._read(exchange, RevokeRequest)
        await self.control.revoke(asked.node, asked.reason)
        return {"node": asked.node, "reason": asked.reason}

    async def create_token(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/tokens."""
        asked = await self._read(exchange, TokenRequest)
        return await self.credentials.create_token(ttl_s=asked.ttl_s, uses=asked.uses, labels=asked.labels)

    async def list_keys(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /admin/keys."""
        return {"keys": await self.credentials.list_keys()}

    async def create_key(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/keys."""
        rules = await self._read(exchange, KeyRules)
        return await self.credentials.create_key(msgspec.to_builtins(rules))

    async def delete_key(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """DELETE /admin/keys/{id}."""
        await self.credentials.delete_key(rest)
        return {"key_id": rest, "deleted": True}

    async def explain(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /admin/explain/{request_id}."""
        record = self.explainer.explain(rest)
        if record is None:
            raise NotFound(
                f"no decision record of '{rest[:LONGEST_ID]}': it was not sampled, has aged out, or never was"
            )
        return record

    async def _read(self, exchange: Exchange, kind: type[T]) -> T:
        return decode(
            msgspec.json.Decoder(kind), await exchange.body(self.config.body_limit_bytes, self.config.body_deadline_s)
        )
