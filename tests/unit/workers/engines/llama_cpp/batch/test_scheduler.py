"""Which tokens go into a step."""

from protos.contract.request import Job, Sampling
from workers.engines.llama_cpp.batch.sampling import Sampler
from workers.engines.llama_cpp.batch.scheduler import plan_batch
from workers.engines.llama_cpp.batch.sequence import Sequence
from workers.engines.llama_cpp.options import EXACT_ROWS, Options
from workers.engines.speech import Speech


def sequence(slot: int, prompt: int, *, produced: int = 0) -> Sequence:
    sampling = Sampling(temperature=0.0)
    return Sequence(
        job=Job(request_id=f"r{slot}", attempt=1, model="m", quantization="q8_0", sampling=sampling),
        tokens=list(range(prompt + produced)),
        prompt_tokens=prompt,
        budget=100,
        sampler=Sampler(sampling, prompt_seen=frozenset()),
        speech=Speech(()),
        deadline_at=float("inf"),
        slot=slot,
        computed=prompt + produced - 1 if produced else 0,
        produced=produced,
    )


def test_every_decoding_sequence_has_its_token_and_prompts_share_what_is_left() -> None:
    """In order of arrival, in order of slots in the batch."""
    running = [sequence(2, 100), sequence(0, 9, produced=3), sequence(1, 100)]
    plan = plan_batch(running, prefill_budget=128, rows_of_one=63)
    assert [(one.slot, share) for one, share in plan.shares] == [(0, 1), (1, 63), (2, 63)]
    assert (plan.decoding, plan.prefill_tokens, plan.prefills) == (1, 126, 2)
    assert plan.sampled == [(0, running[1])]


def test_the_last_part_of_a_prompt_is_sampled_from() -> None:
    """Its last row is the one whose logits are wanted."""
    plan = plan_batch([sequence(0, 20)], prefill_budget=128, rows_of_one=63)
    assert plan.wanted == [False] * 19 + [True]
    assert [row for row, _ in plan.sampled] == [19]


def test_exactness_is_bought_where_it_can_be_had() -> None:
    """On a CPU, unless the operator would rather have the speed."""
    assert Options(exact=True).rows_of_one(on_gpu=False) == EXACT_ROWS
    assert Options(exact=True, prefill_tokens=32).rows_of_one(on_gpu=False) == 32
    assert Options(exact=True).rows_of_one(on_gpu=True) == Options().prefill_tokens
    assert Options().rows_of_one(on_gpu=False) == Options().prefill_tokens
