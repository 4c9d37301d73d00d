"""Who may be at the server now: a gate as wide as the window, first come, first served."""

import asyncio
from collections import deque

from workers.engines.openai_compatible.slot_window import SlotWindow


class SlotGate:
    """``async with gate`` for the time at the server. The window may change while jobs wait."""

    def __init__(self, window: SlotWindow) -> None:
        self.window = window
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def open(self) -> bool:
        """Whether the next one would go through at once."""
        return self.running < self.window.limit and not self._waiting

    async def __aenter__(self) -> None:
        if self.open:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn in that moment
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def wake(self) -> None:
        """The window may have opened."""
        while self._waiting and self.running < self.window.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    def _leave(self) -> None:
        self.running -= 1
        self.wake()
