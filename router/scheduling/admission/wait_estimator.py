"""How long those who wait will go on waiting, model by model, and for whom that is too long."""

from collections.abc import Iterable, Iterator

from router.scheduling.admission.fair_queue import Waiting
from router.scheduling.admission.queue_throughput import QueueThroughput

LOOK_AGAIN_S = 0.25
"""Least time between two looks through the whole queue."""

DOUBT = 2.0
"""A request is refused when the wait expected for it is so many times the one it can bear. The estimate takes all that
stand before one in rank to go first, but small requests pass large ones that wait for room. With 1 the mixed company
lost 5% of its goodput on refusals of requests that would have been served.
"""

MAX_MODELS = 256
"""Models whose rate is kept; at the bound those nobody waits for are dropped. Clients choose the names."""


class WaitEstimator:
    """Hears who joins and leaves the queue. Requests for one model do not wait for those for another."""

    def __init__(self) -> None:
        self._rates: dict[str, QueueThroughput] = {}
        self._looked_at = float("-inf")

    def joined(self, waiting: Waiting, now: float) -> None:
        """A request joined the queue."""
        name = waiting.request.model.name
        rate = self._rates.get(name)
        if rate is None:
            if len(self._rates) >= MAX_MODELS:
                self._rates = {model: one for model, one in self._rates.items() if not one.empty}
            rate = self._rates[name] = QueueThroughput()
        rate.queued(waiting.tokens, now)

    def gave_up(self, waiting: Waiting) -> None:
        """It left without being served."""
        self._rates[waiting.request.model.name].gave_up(waiting.tokens)

    def left(self, waiting: Waiting, now: float) -> None:
        """It went to a worker."""
        self._rates[waiting.request.model.name].left(waiting.tokens, now, waited=now > waiting.arrived_at)

    def retry_after_s(self, model: str, now: float) -> float:
        """Seconds until all that waits for the model now has left; 0 while nothing is known."""
        rate = self._rates.get(model)
        return rate.wait_s(now) if rate is not None else 0.0

    def due(self, now: float) -> bool:
        """It is time to look through the queue again."""
        return now >= self._looked_at + LOOK_AGAIN_S

    def hopeless(self, in_order: Iterable[Waiting], now: float, *, shed_late: bool) -> Iterator[tuple[Waiting, float]]:
        """Who would still be waiting when it is too late, and how long it would wait.

        ``in_order``: all who wait, first the one that goes first. Too late is when the request's time in the queue or
        its deadline ends, with ``shed_late`` also when its TTFT target can no longer be met. Whoever is named is taken
        to leave: those behind wait that much less.
        """
        self._looked_at = now
        ahead: dict[str, float] = {}
        for waiting in in_order:
            name = waiting.request.model.name
            before = ahead.get(name, 0.0)
            wait = self._rates[name].least_wait_s(now, before)
            latest = min(waiting.expires_at, waiting.late_at) if shed_late else waiting.expires_at
            if not waiting.continuation and wait > DOUBT * (latest - now):
                yield waiting, wait
            else:
                ahead[name] = before + waiting.tokens
