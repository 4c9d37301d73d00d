"""No order of other clients' requests makes a request that fits be refused: an estimate prices, it does not judge."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.worker import Load
from router.domain.placement import FilterName, NoCandidate, Placed
from router.http.dialects.shared.prompt_size import PromptSizes, TextFacts, TextKind
from tests.support.fleets import instance, request, snapshot, worker
from tests.support.placements import DETERMINISTIC, NOW, chosen, placer

texts = st.builds(
    TextFacts,
    st.integers(1, 2_000_000),
    st.integers(0, 50),
    st.sampled_from(TextKind),
)
counted = st.tuples(texts, st.integers(1, 2**33))
"""Somebody's prompt, and what a worker said of it, true or not."""
contexts = st.lists(st.tuples(st.sampled_from([512, 2048, 8192]), st.sampled_from([0, 4096])), min_size=1, max_size=4)


@settings(DETERMINISTIC, max_examples=300)
@given(
    others=st.lists(counted, max_size=30), asked=texts, holding=contexts, max_tokens=st.integers(0, 8192),
    expected=st.integers(1, 50_000),
)  # fmt: skip
def test_a_request_is_placed_whatever_others_sent(
    others: list[tuple[TextFacts, int]],
    asked: TextFacts,
    holding: list[tuple[int, int]],
    max_tokens: int,
    expected: int,
) -> None:
    """Wherever max_tokens leaves room for one token of prompt; where by the estimate nobody has the context, at one
    of those with the longest.
    """
    fleet = snapshot(
        *(
            worker(f"w{n}", instance(context_tokens=context, kv_capacity_tokens=kv), load=Load(observed_at=NOW))
            for n, (context, kv) in enumerate(holding)
        ),
        at=NOW,
    )
    sizes = PromptSizes()
    for text, tokens in others:
        sizes.learn("m", text, tokens)
    estimate = sizes.estimate("m", asked, fleet)
    wanted = request(
        max_tokens=max_tokens or None, prompt_tokens_estimate=estimate, prompt_bytes=asked.size_bytes,
        expected_output_tokens=expected,
    )  # fmt: skip
    outcome = placer().place(wanted, fleet, NOW)
    longest = max(min(context, kv or context) for context, kv in holding)
    if max(max_tokens, 1) > longest:
        assert isinstance(outcome, NoCandidate)
        assert outcome.exclusions.filters() == {FilterName.CONTEXT}
        assert outcome.longest_context == longest
        return
    assert isinstance(outcome, Placed)
    held = chosen(fleet, outcome)[1]
    limit = min(held.context_tokens, held.kv_capacity_tokens or held.context_tokens)
    assert limit >= min(longest, estimate + max(max_tokens, 1))
