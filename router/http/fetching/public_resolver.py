"""Names of hosts into addresses that anybody may reach: never into this network's own."""

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from router.http.fetching.rules import NotToBeFetched


class PublicResolver(AbstractResolver):
    """Names into public addresses alone; what it says is what is dialled, so that a name cannot change its mind."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._inner = ThreadedResolver()
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises NotToBeFetched where there is none."""
        found = await self._inner.resolve(host, port, family)
        allowed = [one for one in found if self._is_allowed(one["host"])]
        if not allowed:
            raise NotToBeFetched("its host has no public address")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()
