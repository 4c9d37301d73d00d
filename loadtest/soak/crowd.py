"""Clients of a soak: so many requests a second on schedule, one in five of which hangs up in the middle."""

import asyncio
import json
import random
from collections import Counter

import aiohttp

from loadtest.soak.pool import MODELS

ABORTING = 0.2
TOKENS = (16, 64)
SHARED_PROMPTS = 200
"""Prompts begin with one of so many texts: caches fill and then stay full."""
DEADLINE_S = 60.0
AT_ONCE = 512
"""Requests open at most; a soak is no test of overload."""


class Crowd:
    """Asks until ``stop``; ``endings`` counts what became of each."""

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.endings: Counter[str] = Counter()
        self._url = f"{url}/v1/chat/completions"
        self._rate = rate
        self._dice = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Ask nothing more."""
        self._over.set()

    async def run(self) -> None:
        """Until stopped and the last answer is there."""
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
            due = loop.time()
            while not self._over.is_set():
                due += self._dice.expovariate(self._rate)
                try:
                    async with asyncio.timeout_at(due):
                        await self._over.wait()
                except TimeoutError:
                    pass
                if len(self._open) >= AT_ONCE:
                    self.endings["not sent"] += 1
                elif not self._over.is_set():
                    task = loop.create_task(self._ask(session))
                    self._open.add(task)
                    task.add_done_callback(self._open.discard)
            await asyncio.gather(*self._open)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        tokens = self._dice.randint(*TOKENS)
        leaves_after = self._dice.randrange(tokens) if self._dice.random() < ABORTING else None
        shared = self._dice.randrange(SHARED_PROMPTS)
        text = f"Conversation {shared}. " * 40 + f"Question {self._dice.randrange(10)}."
        body = {"model": self._dice.choice(MODELS), "messages": [{"role": "user", "content": text}],
                "max_tokens": tokens, "ignore_eos": True, "stream": True}  # fmt: skip
        try:
            async with session.post(self._url, json=body) as reply:
                if reply.status != 200:
                    said = json.loads(await reply.text() or "{}").get("error", {}).get("code", "")
                    self.endings[f"refused: {reply.status} {said}"] += 1
                    return
                self.endings[await self._listen(reply, leaves_after)] += 1
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.endings[f"failed: {type(error).__name__}"] += 1

    async def _listen(self, reply: aiohttp.ClientResponse, leaves_after: int | None) -> str:
        heard = 0
        async for line in reply.content:
            if line.startswith(b"data: [DONE]"):
                return "complete"
            if line.startswith(b'data: {"error"'):
                return "broken"
            heard += line.startswith(b"data:")
            if leaves_after is not None and heard > leaves_after:
                reply.close()
                return "left"
        return "broken"
