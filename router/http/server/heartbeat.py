"""Signs of life on a stream whose first token takes long: a prompt of 100,000 tokens is prefilled for minutes, and
proxies and clients give up on a connection that says nothing.

A timer per request, nothing per token: the task exists only where the first token took longer than one interval.
"""

import asyncio
from types import TracebackType
from typing import Self

from router.http.server.exchange import Exchange


class Heartbeat:
    """Writes ``sign`` every ``interval_s`` until ``stop``, which waits for a write under way."""

    __slots__ = ("_exchange", "_interval_s", "_sign", "_task", "_timer")

    def __init__(self, exchange: Exchange, sign: bytes, interval_s: float) -> None:
        self._exchange = exchange
        self._sign = sign
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._sign:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """There is something to say now. Idempotent, and free once it was called."""
        timer, self._timer = self._timer, None
        if timer is None:
            return
        timer.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # the client is gone: whoever watches the exchange says so

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await self._exchange.write(self._sign)
            await asyncio.sleep(self._interval_s)
