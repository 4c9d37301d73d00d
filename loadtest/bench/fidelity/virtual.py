"""The simulated worker of ``bench-simfidelity``: the engine's core on a virtual clock, with a frozen profile."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench.fidelity.load import Request
from workers.engines.simulated.batch.core import SimulatedCore
from workers.engines.simulated.batch.sequence import EventKind, Sequence_
from workers.engines.simulated.profile import read_profile

RUNS = 8
"""Runs a prediction is made of: the noise of one would be taken for the machine's."""


class VirtualWorker:
    """Predicts what a worker with this profile does: the outcome of several runs. Each begins idle."""

    def __init__(self, profile: Path, seed: int = 0) -> None:
        self._parameters = read_profile(str(profile)).true
        self._seed = seed

    @property
    def slots(self) -> int:
        """Sequences that run together."""
        return self._parameters.slots

    def _core(self, run: int) -> SimulatedCore:
        return SimulatedCore(self._parameters, random.Random(f"{self._seed}/{run}"))

    def open(self, requests: Sequence[Request], runs: int = RUNS) -> list[float]:
        """Seconds to the first token of each request, of all runs."""
        return [first for run in range(runs) for first in self._open(requests, run)]

    def _open(self, requests: Sequence[Request], run: int) -> list[float]:
        core = self._core(run)
        sequences = []
        for number, request in enumerate(requests):
            core.step(request.at_s)
            sequences.append(_sequence(number, request))
            core.submit(request.at_s, sequences[-1])
        while len(core):
            core.step(core.next_event_at())
        return [(one.first_at or 0.0) - one.arrived_at for one in sequences]

    def closed(self, requests: Sequence[Request], streams: int, *, warm_s: float, seconds: float) -> float:
        """Output tokens a second between ``warm_s`` and ``seconds``, each stream asking again when it is answered."""
        return statistics.mean(self._closed(requests, streams, run, warm_s, seconds) for run in range(RUNS))

    def _closed(self, requests: Sequence[Request], streams: int, run: int, warm_s: float, seconds: float) -> float:
        core = self._core(run)
        queue = enumerate(requests)
        for _ in range(streams):
            core.submit(0.0, _sequence(*next(queue)))
        done = written = 0
        marks = [warm_s, seconds]
        counts = []
        while marks:
            at = min(core.next_event_at(), marks[0])
            for event in core.step(at):
                if event.kind is EventKind.FINISHED:
                    done += event.sequence.output_tokens
                    number, request = next(queue)
                    core.submit(at, _sequence(number, request, at))
            if at == marks[0]:
                written = done + sum(core.produced(one, at) for one in core.sequences())
                counts.append(written)
                marks.pop(0)
        return (counts[1] - counts[0]) / (seconds - warm_s)


def _sequence(number: int, request: Request, at: float | None = None) -> Sequence_:
    return Sequence_(
        key=number,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        expected_tokens=request.output_tokens,
        arrived_at=request.at_s if at is None else at,
    )
