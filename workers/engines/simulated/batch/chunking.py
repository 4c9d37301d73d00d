"""Chunked prefill: who computes how much of a prompt in the next step. Pure."""

from collections.abc import Iterable

from workers.engines.simulated.batch.sequence import Sequence_
from workers.engines.simulated.parameters import EngineParameters


def share_out(
    prefilling: Iterable[Sequence_], budget: int, parameters: EngineParameters
) -> tuple[list[tuple[Sequence_, int]], float]:
    """Tokens of each sequence, first come first served, and the seconds they take together."""
    plan: list[tuple[Sequence_, int]] = []
    seconds, of_one = 0.0, parameters.sequence_chunk_tokens or budget
    for sequence in prefilling:
        count = min(sequence.to_prefill, budget, of_one)
        seconds += parameters.prefill_s(count, sequence.prefilled + count / 2.0)
        plan.append((sequence, count))
        budget -= count
        if budget <= 0:
            break
    return plan, seconds
