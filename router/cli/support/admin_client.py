"""Where the operator's commands do their work: at the running router over HTTP, or on its store directly.

With ``--url`` (or ``ALLSORTS_URL``) the router does it, and asks for an admin key; without, the command opens the
store of ``--state-dir`` on this machine, which works whether the router runs or not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from router.domain.clock import SystemClock
from router.errors import ConfigError
from router.http.server.interfaces import Credentials

DEADLINE_S = 15.0

T = TypeVar("T")


class AdminClient:
    """The running router's /admin endpoints."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def create_token(
        self, *, ttl_s: float, uses: int, labels: Mapping[str, str], models: Sequence[str] = ()
    ) -> dict[str, Any]:
        """POST /admin/tokens."""
        body = {"ttl_s": ttl_s, "uses": uses, "labels": dict(labels), "models": list(models)}
        return dict(await self.call("POST", "/admin/tokens", body))

    async def create_key(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """POST /admin/keys."""
        return dict(await self.call("POST", "/admin/keys", dict(rules)))

    async def list_keys(self) -> list[dict[str, Any]]:
        """GET /admin/keys."""
        found = await self.call("GET", "/admin/keys")
        return list(found["keys"] if isinstance(found, dict) else found)

    async def delete_key(self, key_id: str) -> None:
        """DELETE /admin/keys/{id}."""
        await self.call("DELETE", f"/admin/keys/{key_id}")

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request. Raises ConfigError with the router's own reason."""
        url = self._url + path
        try:
            async with httpx.AsyncClient(timeout=DEADLINE_S, headers=self._headers) as client:
                reply = await client.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise ConfigError(f"{url}: {error or type(error).__name__}; is the router running there?") from None
        if reply.status_code >= 400:
            raise ConfigError(f"{url}: HTTP {reply.status_code}: {_reason(reply)}{_hint(reply.status_code)}")
        try:
            return reply.json() if reply.content else {}
        except ValueError:
            raise ConfigError(f"{url}: the reply is not JSON; is this an allsorts router?") from None


def as_admin(
    work: Callable[[Credentials], Awaitable[T]], *, url: str, key: str, state_dir: str, address: str = ""
) -> T:
    """Run ``work`` at the router or on the store. ``address`` overrides what joiners are told to dial."""
    return asyncio.run(_as_admin(work, url, key, state_dir, address))


async def _as_admin(work: Callable[[Credentials], Awaitable[T]], url: str, key: str, state_dir: str, address: str) -> T:
    if url:
        return await work(AdminClient(url, key))
    try:  # only here: an operator's laptop has the base install, which asks routers and is none
        from router.state.backend import StoreFailed
        from router.state.location import open_store
        from router.trust.credentials import StoredCredentials
        from router.trust.security import ENROL_ADDRESS, load_authority
    except ImportError as error:
        raise ConfigError(
            f"without --url this works on a router's own store, for which {error.name} is missing here: name the "
            "router with --url, or install it with: pip install 'allsorts[router]'"
        ) from None
    store = open_store(state_dir)
    try:
        clock = SystemClock()
        authority = await load_authority(store, clock)
        told = address or await store.recall(ENROL_ADDRESS) or ""
        return await work(
            StoredCredentials(
                store=store, clock=clock, fingerprint=authority.fingerprint, enrol_address=lambda: _known(told)
            )
        )
    except StoreFailed as error:
        raise ConfigError(str(error)) from None
    finally:
        await store.close()


def _known(address: str) -> str:
    if not address:
        raise ConfigError(
            "no router has listened for joining machines with this state yet; start it first with "
            "`allsorts serve --grpc-host 0.0.0.0`, or say where it will be with --address HOST:PORT"
        )
    return address


def _reason(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]


def _hint(status: int) -> str:
    return "; give an admin key with --key or ALLSORTS_API_KEY" if status in (401, 403) else ""
