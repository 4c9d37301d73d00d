"""Answers that clients come back to: kept for a time in the store, each for the key that asked.

A store that is slow or gone costs what would have been kept, never an answer: it says that it is kept, and is not.
"""

import asyncio
from typing import Any

import msgspec
import structlog

from router.config import HttpConfig
from router.domain.clock import Clock
from router.domain.principal import Principal
from router.errors import InvalidRequest, NotFound
from router.http.dialects.dialect import Turn
from router.http.server.exchange import Exchange
from router.http.server.interfaces import ResponseStore
from router.state.backend import StoreFailed
from router.state.rows import ResponseRow

log = structlog.get_logger()

KEPT_WITHIN_S = 2.0
"""How long an answer's end waits for the store."""

WAITING = 64
"""Answers that wait for the store; those beyond are not kept."""

ITEMS = "/input_items"
_SHOWN_ID = 100


class PreviousNotFound(InvalidRequest):
    """There is no such answer to go on from."""

    code = "previous_response_not_found"


class InputItems(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/responses/{id}/input_items``: what it answered, the newest first."""

    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool = False


class ResponseDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """``DELETE /v1/responses/{id}``."""

    id: str
    object: str = "response"
    deleted: bool = True


class KeptResponses:
    """Keeps, finds and erases."""

    def __init__(self, *, store: ResponseStore, clock: Clock, config: HttpConfig) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        self._waiting = 0

    async def earlier(self, principal: Principal, response_id: str) -> ResponseRow:
        """An answer to go on from. Raises InvalidRequest, StoreFailed."""
        found = await self._store.response(principal.key_id, response_id, self._clock.wall())
        if found is None:
            raise PreviousNotFound(
                f"Previous response with id '{response_id[:_SHOWN_ID]}' not found{self._how_long()}; "
                "send the whole conversation as 'input'",
                param="previous_response_id",
            )
        return found

    async def keep(self, principal: Principal, turn: Turn) -> None:
        """What is to be kept of a call that has been answered."""
        row = turn.kept()
        if row is None:
            return
        if self._waiting >= WAITING:
            log.warning("response.not_kept", response_id=row.response_id, reason=f"{WAITING} others wait for the store")
            return
        now = self._clock.wall()
        row = msgspec.structs.replace(row, expires_at=now + self._config.responses_kept_s)
        self._waiting += 1
        try:
            async with asyncio.timeout(KEPT_WITHIN_S):
                if not await self._store.keep_response(principal.key_id, row, self._config.responses_limit_bytes, now):
                    log.info("response.not_kept", response_id=row.response_id, reason="it is too large")
        except (StoreFailed, TimeoutError) as error:
            log.warning("response.not_kept", response_id=row.response_id, reason=str(error) or "the store is slow")
        finally:
            self._waiting -= 1

    # -- handlers ---------------------------------------------------------------------------------------

    async def show(self, principal: Principal, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """GET /v1/responses/{id}, and its input_items."""
        response_id = rest.removesuffix(ITEMS)
        found = await self._store.response(principal.key_id, response_id, self._clock.wall())
        if found is None:
            raise self._not_found(response_id)
        if response_id == rest:
            return found.response
        items = msgspec.json.decode(found.items, type=list[dict[str, Any]])[::-1]
        first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
        return InputItems(data=items, first_id=first, last_id=last)

    async def forget(self, principal: Principal, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """DELETE /v1/responses/{id}."""
        if not await self._store.forget_response(principal.key_id, rest, self._clock.wall()):
            raise self._not_found(rest)
        return ResponseDeleted(id=rest)

    def _not_found(self, response_id: str) -> NotFound:
        return NotFound(f"Response with id '{response_id[:_SHOWN_ID]}' not found{self._how_long()}")

    def _how_long(self) -> str:
        kept_s = self._config.responses_kept_s
        return f"; they are kept for {kept_s:.0f} s" if kept_s else "; nothing is kept here (http.responses_kept_s = 0)"
