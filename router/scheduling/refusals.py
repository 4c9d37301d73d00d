"""What a worker's no means for the request: the client's own fault, or a reason to try elsewhere. Pure."""

from protos.contract.ids import WorkerId
from protos.contract.stream import Refusal, RefusalCode
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot


def is_clients_fault(
    refusal: Refusal, request: InferenceRequest, fleet: FleetSnapshot, tried: frozenset[WorkerId]
) -> bool:
    """Whether the client must change its request: a bad value at once, a limit only when no other worker goes further.

    ``tried``: workers that have refused or failed it, the one that speaks included.
    """
    if refusal.code is RefusalCode.INVALID:
        return True
    if refusal.code not in (RefusalCode.CONTEXT_LENGTH, RefusalCode.UNSUPPORTED):
        return False
    return not any(
        instance.context_tokens > refusal.context_tokens
        for worker in fleet.workers
        if worker.worker_id not in tried
        for instance in worker.models
        if instance.model == request.model.name
    )
