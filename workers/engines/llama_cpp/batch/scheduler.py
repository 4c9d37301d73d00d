"""Which tokens go into the next batch. Pure.

Every decoding sequence gets its one token, and behind it those proposed to follow, after each of which it is sampled;
what is left of the step goes to prefill, first come first served, so that long prompts never stop those who are being
answered. Rows are ordered by slot: llama.cpp computes sequences with neighbouring ids together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.engines.llama_cpp.batch.sequence import Sequence


@dataclass(slots=True)
class Plan:
    """Rows of one batch, and which sequence samples from which row."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)
    first_rows: list[int] = field(default_factory=list)  # of each share
    sampled: list[tuple[int, Sequence]] = field(default_factory=list)  # (first row, sequence); a row more each proposal
    shares: list[tuple[Sequence, int]] = field(default_factory=list)  # tokens computed for each sequence
    decoding: int = 0
    prefill_tokens: int = 0
    prefills: int = 0  # sequences that prefill


def plan_batch(sequences: Iterable[Sequence], prefill_budget: int, rows_of_one: int) -> Plan:
    """The next step of ``sequences`` (in order of arrival), with at most ``prefill_budget`` prompt tokens, and at most
    ``rows_of_one`` of any sequence.
    """
    shares: list[tuple[Sequence, int]] = []
    left = prefill_budget
    for sequence in sequences:
        if not sequence.prefilling:
            shares.append((sequence, 1))
        elif left > 0:
            share = min(left, rows_of_one, sequence.pending)
            left -= share
            shares.append((sequence, share))
    shares.sort(key=lambda pair: pair[0].slot)
    plan = Plan(shares=shares)
    for sequence, share in shares:
        _add(plan, sequence, share)
    return plan


def _add(plan: Plan, sequence: Sequence, share: int) -> None:
    start = sequence.computed
    plan.first_rows.append(len(plan.tokens))
    plan.tokens.extend(sequence.tokens[start : start + share])
    plan.positions.extend(range(start, start + share))
    plan.slots.extend([sequence.slot] * share)
    complete = share == sequence.pending
    plan.wanted.extend([sequence.scores_prompt] * (share - 1))
    plan.wanted.append(complete or sequence.scores_prompt)
    if complete:
        plan.sampled.append((len(plan.tokens) - 1, sequence))
        _add_draft(plan, sequence, start + share)
    if sequence.prefilling:
        plan.prefill_tokens += share
        plan.prefills += 1
    else:
        plan.decoding += 1


def _add_draft(plan: Plan, sequence: Sequence, start: int) -> None:
    draft = sequence.draft
    plan.tokens.extend(draft)
    plan.positions.extend(range(start, start + len(draft)))
    plan.slots.extend([sequence.slot] * len(draft))
    plan.wanted.extend([True] * len(draft))
