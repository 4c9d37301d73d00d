"""One model behind one base URL: its client, its slots, and whether the server answers."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import httpx

from protos.contract.worker import ModelInstance
from workers.engines.openai_compatible.chunks import Flavor

HEALTH_INTERVAL_S = 1.0
HEALTH_TIMEOUT_S = 5.0
RATE_WINDOW_S = 5.0


@dataclass(slots=True)
class Upstream:
    """A server's model as this engine uses it."""

    client: httpx.AsyncClient
    model: str  # what the server calls it
    flavor: Flavor
    loaded: ModelInstance
    slots: asyncio.Semaphore
    down: str = ""  # why the server does not answer; empty: it does
    alive_count: int = 0  # health checks answered
    watcher: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """Where it is."""
        return str(self.client.base_url)

    async def watch(self) -> None:
        """Ask every second whether the server is there; a server that comes back is used again."""
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            await self.check()

    async def check(self) -> None:
        """One health check."""
        try:
            reply = await self.client.get("models", timeout=HEALTH_TIMEOUT_S)
        except httpx.HTTPError as error:
            self.down = f"the server at {self.base_url} does not answer: {str(error) or type(error).__name__}"
            return
        if reply.status_code >= 500:
            self.down = f"the server at {self.base_url} answers with status {reply.status_code}"
            return
        self.down = ""
        self.alive_count += 1


@dataclass(slots=True)
class TokenRate:
    """Output tokens a second over the last seconds."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, tokens: int) -> None:
        """Tokens came just now."""
        if tokens:
            self._seen.append((time.monotonic(), tokens))
            self._forget()

    def now(self) -> float:
        """Tokens a second; zero once nothing came for the whole window."""
        self._forget()
        return sum(tokens for _, tokens in self._seen) / RATE_WINDOW_S

    def _forget(self) -> None:
        limit = time.monotonic() - RATE_WINDOW_S
        while self._seen and self._seen[0][0] < limit:
            self._seen.popleft()
