"""What a worker's no means for the request: the client's own fault, or a reason to try elsewhere. Pure."""

from protos.contract.ids import WorkerId
from protos.contract.stream import Refusal, RefusalCode
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot


def is_clients_fault(
    refusal: Refusal, request: InferenceRequest, fleet: FleetSnapshot, tried: frozenset[WorkerId]
) -> bool:
    """Whether the client must change its request: a bad value at once, a limit only when no other worker goes further.

    ``tried``: workers that have refused or failed it, the one that speaks included. It is not believed that its context
    is longer than it announced: one that lies would turn away what others would serve.
    """
    if refusal.code is RefusalCode.INVALID:
        return True
    if refusal.code not in (RefusalCode.CONTEXT_LENGTH, RefusalCode.UNSUPPORTED):
        return False
    announced: dict[bool, int] = {}  # the longest context among those tried (True), and among the others
    for worker in fleet.workers:
        for instance in worker.models:
            if instance.model == request.model.name:
                asked = worker.worker_id in tried
                announced[asked] = max(announced.get(asked, 0), instance.context_tokens)
    reached = min(refusal.context_tokens, announced.get(True) or refusal.context_tokens)
    return announced.get(False, 0) <= reached
