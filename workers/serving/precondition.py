"""The precondition under which a router sent a job: checked here, where the true load is, before anything is queued."""

from protos.contract.worker import Load


def violation(max_queued_prefill_tokens: int, figures: Load) -> str:
    """Why the router's choice does not hold at this load; empty: it does, or there is no precondition (0).

    >>> violation(800, Load(prefill_tokens_pending=900))
    '900 prompt tokens wait here, the router counted on at most 800'
    """
    queued = figures.prefill_tokens_pending
    if max_queued_prefill_tokens <= 0 or queued <= max_queued_prefill_tokens:
        return ""
    return f"{queued} prompt tokens wait here, the router counted on at most {max_queued_prefill_tokens}"
