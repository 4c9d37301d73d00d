"""What admission answers, and what it asks of whoever keeps the claims."""

from collections.abc import Callable
from dataclasses import dataclass

from protos.contract.ids import RequestId
from router.domain.placement import Placed
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.events import Shed


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The request goes there, now; its claim is open."""

    request_id: RequestId
    placed: Placed


Decision = Admitted | Shed

OpenClaim = Callable[[InferenceRequest, Placed, float], FleetSnapshot]
"""Opens the claim of a request that was just placed, at a monotonic second; returns the fleet with that claim in it."""
