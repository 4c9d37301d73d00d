"""What operators ask and do: the fleet, drains and cordons, tokens, keys, and why a request went where it went."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from router.config import HttpConfig
from router.errors import NotFound
from router.http.admin.fleet_view import Fetches, drafts_body, fleet_body
from router.http.admin.rejection_log import RejectionLog
from router.http.admin.schemas import DrainRequest, NodeRequest, RevokeRequest, TokenRequest
from router.http.server.decoding import decode
from router.http.server.errors import error_body
from router.http.server.exchange import JSON, Exchange
from router.http.server.interfaces import Credentials, Explainer, FleetControl, FleetReader
from router.speculation.notes import NO_NOTES, DraftNotes
from router.state.api_keys import KeyRules

T = TypeVar("T")

Archive = Callable[[str], list[bytes]]
"""Decision records of a request as they lie on disk, JSON; called in a thread."""

BODY_LIMIT_BYTES = 256 * 1024
"""Of what operators send: names and rules."""

MAX_ID_CHARS = 128
"""Characters of an unknown id that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Handlers that return JSON-ready values. They raise AllsortsError; the app translates it."""

    fleet: FleetReader
    control: FleetControl
    credentials: Credentials
    explainer: Explainer
    config: HttpConfig
    drain_deadline_s: float  # when the operator names none
    replica: str
    replicas: int
    archive: Archive | None
    rejections: RejectionLog
    drafts: Callable[[], DraftNotes] = lambda: NO_NOTES
    fetches: Callable[[], Fetches] = tuple
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def show_fleet(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /admin/fleet."""
        return fleet_body(self.fleet.snapshot(), self.drafts(), self.fetches())

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
        if asked.model:
            await self.control.refuse_model(asked.node, asked.model)
            return {"node": asked.node, "model": asked.model}
        await self.control.revoke(asked.node, asked.reason)
        return {"node": asked.node, "reason": asked.reason}

    async def create_token(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/tokens."""
        asked = await self._read(exchange, TokenRequest)
        return await self.credentials.create_token(
            ttl_s=asked.ttl_s, uses=asked.uses, labels=asked.labels, models=asked.models
        )

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
        rejection = self.rejections.find(rest)
        found = self.explainer.explain(rest) or await self._from_disk(rest)
        if found is not None or rejection is not None:
            drafts = drafts_body(self.fleet.snapshot())  # of now: what a target gains by its draft is in its speed
            beside: dict[str, Any] = {"refused": rejection} if rejection else {}
            beside |= {"drafts": drafts} if drafts else {}
            return {"request_id": rest, "records": [], **(found or {}), **beside}
        where = f" at {self.replica}, one of {self.replicas} router replicas" if self.replicas > 1 else ""
        error = NotFound(
            f"no decision record of '{rest[:MAX_ID_CHARS]}'{where}: it was not sampled, has aged out, or never was"
        )
        # Which replica said so, for a client that goes on asking until it has heard all of them.
        told = {"replica": self.replica, "replicas": self.replicas, **msgspec.json.decode(error_body(error))}
        return error.http_status, msgspec.json.encode(told), JSON

    async def _from_disk(self, request_id: str) -> dict[str, Any] | None:
        """What any replica of this machine wrote, before a restart too. One reader at a time: it reads whole files."""
        if self.archive is None or not request_id or len(request_id) > MAX_ID_CHARS:
            return None
        async with self._reading:
            lines = await asyncio.to_thread(self.archive, request_id)
        return {"records": [msgspec.Raw(line) for line in lines]} if lines else None

    async def _read(self, exchange: Exchange, kind: type[T]) -> T:
        return decode(msgspec.json.Decoder(kind), await exchange.body(BODY_LIMIT_BYTES, self.config.body_deadline_s))
