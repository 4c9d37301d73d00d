"""What this process holds: open requests, claims, tasks, memory, descriptors. All of it flat, or something leaks."""

import asyncio
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ProcessGauges(Collector):
    """Read when scraped, on the event loop. Each figure is a function without arguments."""

    def __init__(self, *, requests: Callable[[], int], claims: Callable[[], int]) -> None:
        self._requests = requests
        self._claims = claims

    def describe(self) -> Iterator[Metric]:
        """Names only."""
        yield from self._families(0, 0, 0)

    def collect(self) -> Iterator[Metric]:
        """One sample each."""
        yield from self._families(self._requests(), self._claims(), _tasks())

    @staticmethod
    def _families(requests: int, claims: int, tasks: int) -> Iterator[Metric]:
        yield GaugeMetricFamily("allsorts_open_requests", "Requests that have not ended", value=requests)
        yield GaugeMetricFamily("allsorts_open_claims", "Claims on workers' capacity", value=claims)
        yield GaugeMetricFamily("allsorts_tasks", "Tasks of the event loop", value=tasks)


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # scraped outside of a loop
        return 0
