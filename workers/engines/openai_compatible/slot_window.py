"""How many jobs a server takes at once, where it does not tell: additive increase, multiplicative decrease. Pure.

The window opens by an eighth whenever as many answers as it is wide went well while it was full, and closes by
a quarter when the server says that it is full (429, 503), or to what it works on when it keeps others waiting (by its
own metrics).
"""

from dataclasses import dataclass

DECREASE = 0.75
FIRST = 64
"""Where an unknown server begins: a GPU is not throttled, and a small one says soon that it is full, or queues."""
PATIENCE = 2
"""Looks in a row that find requests waiting there: what has just arrived waits for a step, too."""


@dataclass(slots=True)
class SlotWindow:
    """``limit`` jobs at once; between 1 and ``most``.

    >>> window = SlotWindow(most=64)
    >>> window.limit
    64
    >>> window.full(running=10)
    >>> window.limit
    7
    """

    most: int
    fixed: bool = False  # the server told, or its owner set it
    limit: int = 0
    _well: int = 0  # answers that went well since the limit changed, with the window full
    _queued: int = 0  # looks in a row that found requests waiting at the server

    def __post_init__(self) -> None:
        if not self.limit:
            self.limit = self.most if self.fixed else min(self.most, FIRST)

    def went_well(self, running: int) -> None:
        """An answer came while ``running`` jobs were there, itself among them."""
        if self.fixed or running < self.limit or self.limit >= self.most:
            return
        self._well += 1
        if self._well >= self.limit:
            self._set(self.limit + max(1, self.limit // 8))

    def full(self, running: int) -> None:
        """The server has no room for more than ``running``."""
        if not self.fixed:
            self._set(int(min(self.limit, max(1, running)) * DECREASE))

    def told(self, running: int, waiting: int) -> None:
        """The server's own count: what waits there is better kept here, where it can still go elsewhere."""
        self._queued = self._queued + 1 if waiting > 0 and running > 0 else 0
        if not self.fixed and self._queued >= PATIENCE:
            self._set(min(running, self.limit))

    def _set(self, limit: int) -> None:
        self.limit = min(max(1, limit), self.most)
        self._well = 0
