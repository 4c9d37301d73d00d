"""How much of its time a worker spends on prefill: what it says of its progress, over the last seconds.

An engine that mixes prefill into decode steps gives its decoding sequences only the time that is left. With prompts
of a thousand tokens and answers of two hundred, that is often half: a price that leaves it out is off by two.
"""

import math

MEMORY_S = 10.0
"""The share is an average over about so long: as long as a typical answer takes."""

MAX_SHARE = 0.8
"""Above, the reports and the believed prefill rate contradict each other, and a price would run away."""


class PrefillShare:
    """Fed with each load report; a worker that does not tell its progress counts as one that never prefills."""

    __slots__ = ("_at", "_progress", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self._progress = 0
        self._at: float | None = None

    def update(self, progress: int, at: float, token_s: float) -> float:
        """``progress``: tokens prefilled since the engine started; ``token_s``: seconds a token takes."""
        if self._at is None or progress < self._progress or at <= self._at:
            if self._at is None or progress < self._progress:
                self._progress, self._at = progress, at
            return self.share
        kept = math.exp(-(at - self._at) / MEMORY_S)
        seconds = (progress - self._progress) * token_s
        # What was prefilled in the interval, spread over it: a step's progress shows at its end.
        now = min(seconds / (at - self._at), 1.0 / max(1.0 - kept, 1e-9))
        self.share = min(kept * self.share + (1.0 - kept) * now, MAX_SHARE)
        self._progress, self._at = progress, at
        return self.share
