"""The load of several models on one machine."""

from collections.abc import Sequence

from protos.contract.worker import Load


def sum_of_loads(loads: Sequence[Load]) -> Load:
    """Counts add up; the last step is that of the busiest model."""
    if len(loads) == 1:
        return loads[0]
    busiest = max(loads, key=lambda one: (one.last_step_batch, one.running), default=Load())
    return Load(
        running=sum(one.running for one in loads),
        waiting=sum(one.waiting for one in loads),
        prefill_tokens_pending=sum(one.prefill_tokens_pending for one in loads),
        context_tokens=sum(one.context_tokens for one in loads),
        expected_remaining_tokens=sum(one.expected_remaining_tokens for one in loads),
        kv_used=max((one.kv_used for one in loads), default=0.0),
        step_sequence=sum(one.step_sequence for one in loads),
        prefill_progress=sum(one.prefill_progress for one in loads),
        draft_rounds=sum(one.draft_rounds for one in loads),
        draft_proposed=sum(one.draft_proposed for one in loads),
        draft_accepted=sum(one.draft_accepted for one in loads),
        tokens_per_s=sum(one.tokens_per_s for one in loads),
        last_step_s=busiest.last_step_s,
        last_step_batch=busiest.last_step_batch,
        last_step_prefill_tokens=busiest.last_step_prefill_tokens,
        last_step_prefills=busiest.last_step_prefills,
    )
