"""Admission in front of a placer, with claims kept as views of the snapshot it was given; and one worker of eight slots
to show it.
"""

import random
from dataclasses import replace
from typing import Any

from protos.contract.worker import Load
from router.domain.placement import Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.admission.control import Admission
from router.scheduling.admission.interfaces import Admitted, Decision
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.events import Shed
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.interfaces import Placer
from tests.support.fleets import claimed, instance, snapshot, worker

SLOTS = 8
FULL = Load(running=SLOTS, waiting=4, expected_remaining_tokens=8 * 400, prefill_tokens_pending=4000)


class Gate(Admission):
    """``pump`` shows it a fleet and returns what it decides."""

    def __init__(self, placer: Placer, limits: AdmissionLimits | None = None) -> None:
        super().__init__(placer=placer, open_claim=self._claim, limits=limits)
        self._fleet = snapshot()

    def pump(self, fleet: FleetSnapshot, now: float) -> list[Decision]:
        """Everything that can be decided now."""
        self._fleet = fleet
        return self.schedule(fleet, now)

    def _claim(self, request: InferenceRequest, placed: Placed, now: float) -> FleetSnapshot:
        self._placer.dispatched(request, placed, now)
        uncached = max(0, request.prompt_tokens_estimate - placed.prediction.cached_tokens)
        self._fleet = claimed(self._fleet, placed.worker_id, tokens=uncached)
        return self._fleet


def admission(**limits: Any) -> Gate:
    """In front of the cost policy."""
    placer = build_placer("cost", rng=random.Random(0))
    return Gate(placer, AdmissionLimits(**limits))


def pool(load: Load | None = None) -> FleetSnapshot:
    """One worker of eight slots."""
    return snapshot(worker("w", instance(slots=SLOTS), load=load or Load()))


def shed(decisions: list[Decision]) -> list[Shed]:
    """Those refused."""
    return [one for one in decisions if isinstance(one, Shed)]


def sent(decisions: list[Decision]) -> list[str]:
    """Ids of those dispatched, in order."""
    return [one.request_id for one in decisions if isinstance(one, Admitted)]


def drained(gate: Gate, count: int, now: float = 1.0) -> list[str]:
    """Who goes first when the pool frees one slot after another."""
    order: list[str] = []
    for step in range(count):
        # A slot is free, and by the next look it is taken: the rest waits on.
        free = pool(replace(FULL, running=SLOTS, waiting=0, observed_at=now + step))
        order += sent(gate.pump(free, now + step))
    return order
