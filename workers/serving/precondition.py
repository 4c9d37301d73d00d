"""The condition under which a router sent a job: checked here, where the true load is, before anything is queued."""

from protos.contract.worker import Load


def conflict(most_pending_tokens: int, figures: Load) -> str:
    """Why the router's choice does not hold at this load; empty when it does, or when there is no condition (0)."""
    pending = figures.prefill_tokens_pending
    if most_pending_tokens <= 0 or pending <= most_pending_tokens:
        return ""
    return f"{pending} prompt tokens wait here, the router counted on at most {most_pending_tokens}"
