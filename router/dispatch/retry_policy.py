"""When a choice travels with its condition, and when it is dropped so that a request cannot wander for ever. Pure.

The precondition itself is ``router.scheduling.placement.precondition``'s; a worker at which it does not hold answers
with a conflict and its true load. The server's pipeline and the simulator go by the same rule.
"""

from router.domain.placement import Placed
from router.domain.request import InferenceRequest

MOST_CONFLICTS = 2
"""After so many conflicts a request is sent without a condition: it takes what it gets."""


def condition_of(request: InferenceRequest, placed: Placed, conflicts: int, *, continuation: bool = False) -> int:
    """Prompt tokens that may stand before the request at its worker; 0: any number.

    None for a request that has nowhere else to go (it is pinned) or is being answered already.
    """
    if continuation or request.model.pinned is not None or conflicts >= MOST_CONFLICTS:
        return 0
    return placed.most_pending_tokens
