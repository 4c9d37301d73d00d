"""Admission in front of a placer, with claims kept as views of the snapshot it was given."""

from router.domain.placement import Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.admission.control import Admission
from router.scheduling.admission.interfaces import Decision
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.placement.interfaces import Placer
from tests.support.fleets import claimed, snapshot


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
