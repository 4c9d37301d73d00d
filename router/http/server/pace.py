"""How much of all large bodies is taken in one turn of the event loop.

Two hundred clients that send as fast as they can would else fill one turn with 50 MB, a tenth of a second in which
nobody's token passes. What is not taken waits at its sender.
"""

import asyncio
from collections import deque

TURN_BYTES = 1024 * 1024
TURN_S = 0.005
"""200 MB a second in all, if there is nothing else to do."""


class Pace:
    """First come, first served."""

    def __init__(self, turn_bytes: int = TURN_BYTES, turn_s: float = TURN_S) -> None:
        self._turn_bytes = turn_bytes
        self._turn_s = turn_s
        self._left = turn_bytes
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def took(self, count: int) -> None:
        """Another ``count`` bytes came: returns when more may be taken."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(self._turn_s, self._next_turn)
        if self._left > 0:
            self._left -= count
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((turn, count))
        await turn

    def _next_turn(self) -> None:
        self._left = self._turn_bytes
        while self._waiting and self._left > 0:
            turn, count = self._waiting.popleft()
            if not turn.done():
                self._left -= count
                turn.set_result(None)
        busy = bool(self._waiting) or self._left < self._turn_bytes
        self._timer = asyncio.get_running_loop().call_later(self._turn_s, self._next_turn) if busy else None
