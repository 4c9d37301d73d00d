"""One model behind one base URL: its client, its slots, and whether the server answers."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import structlog

from protos.contract.worker import ModelInstance
from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_client import ServerClient, Unreachable
from workers.engines.openai_compatible.server_metrics import ServerLoad, load_told, tells
from workers.engines.openai_compatible.slot_gate import SlotGate

log = structlog.get_logger(__name__)

HEALTH_INTERVAL_S = 1.0
RATE_WINDOW_S = 5.0


@dataclass(slots=True)
class Upstream:
    """A server's model as this engine uses it."""

    client: ServerClient
    model: str  # what the server calls it
    flavor: Flavor
    loaded: ModelInstance
    slots: SlotGate
    down: str = ""  # why the server does not answer; empty: it does
    alive_count: int = 0  # health checks answered
    others: ServerLoad | None = None  # what its other clients have there, by its own count
    watcher: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """Where it is."""
        return self.client.base_url

    async def watch(self) -> None:
        """Ask every second whether the server is there; a server that comes back is used again."""
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            try:
                await self.check()
            except Exception:
                log.exception("upstream.check_failed", base_url=self.base_url)

    async def check(self) -> None:
        """One health check, and the server's own load where it tells."""
        try:
            told = await self.client.ask("models")
        except Unreachable as error:
            self.down = f"the server at {self.base_url} does not answer: {error}"
            return
        if told.status >= 500:
            self.down = f"the server at {self.base_url} answers with status {told.status}"
            return
        self.down = ""
        self.alive_count += 1
        await self._ask_for_its_load()

    async def _ask_for_its_load(self) -> None:
        if not tells(self.flavor):
            return
        try:
            page = await self.client.ask("/metrics")
        except Unreachable:
            self.others = None
            return
        text = page.body.decode(errors="replace") if page.status == 200 else ""
        told = load_told(text, self.flavor, self.model)
        self.others = told.without(self.slots.running) if told is not None else None
        if told is not None:
            self.slots.window.told(told.running, told.waiting)
            self.slots.wake()


@dataclass(slots=True)
class TokenRate:
    """Output tokens a second over the last seconds."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _sum: int = 0  # of those: a busy server brings tens of thousands in a window

    def add(self, tokens: int, now: float) -> None:
        """Tokens came at ``now`` (monotonic seconds)."""
        self._seen.append((now, tokens))
        self._sum += tokens
        self._forget(now)

    def now(self) -> float:
        """Tokens a second; zero once nothing came for the whole window."""
        self._forget(time.monotonic())
        return self._sum / RATE_WINDOW_S

    def _forget(self, now: float) -> None:
        limit = now - RATE_WINDOW_S
        while self._seen and self._seen[0][0] < limit:
            self._sum -= self._seen.popleft()[1]
