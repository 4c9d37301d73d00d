"""vLLM's tokens become the contract's deltas."""

from protos.contract.request import Job, Sampling
from protos.contract.stream import FinishReason
from workers.engines.prompts import Prepared
from workers.engines.speech import Speech
from workers.engines.vllm.running import Output, Running

PIECES = {1: b"Hel", 2: b"lo", 3: b" wor", 4: b"ld", 5: b"\xc3", 6: b"\xa9"}
END = 99


def running(**sampling: object) -> Running:
    job = Job(
        request_id="r",
        attempt=2,
        model="m",
        quantization="awq",
        prompt="p",
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
        return_token_ids=True,
    )
    return Running(
        job=job,
        prepared=Prepared([7, 8, 9], [7, 8, 9], [], 10),
        piece=lambda token: PIECES.get(token, b""),
        ends=frozenset({END}),
        engine_id="r-2",
        speech=Speech(job.sampling.stop),
    )


def test_the_end_token_is_no_output() -> None:
    """It ends the answer, and is neither counted nor sent."""
    one = running()
    first = one.feed(Output(token_ids=[1, 2], cached_tokens=2))
    last = one.feed(Output(token_ids=[3, END], finish_reason=FinishReason.STOP))
    assert (first.text, first.token_count, first.position, first.finish_reason) == ("Hello", 2, 0, None)
    assert (last.text, last.token_ids, last.position) == (" wor", (3,), 2)
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cached_tokens) == (3, 3, 2)


def test_a_stop_string_ends_the_job_where_it_begins() -> None:
    """Tokens of the same step behind it are dropped and not counted."""
    one = running(stop=("o w",))
    delta = one.feed(Output(token_ids=[1, 2, 3, 4]))
    assert delta.text == "Hell"
    assert delta.finish_reason is FinishReason.STOP
    assert delta.token_count == 3
    assert one.ended


def test_half_a_character_waits_for_its_rest() -> None:
    """Text comes in whole characters; the count of tokens does not wait."""
    one = running()
    assert (one.feed(Output(token_ids=[5])).text, one.position) == ("", 1)
    whole = one.feed(Output(token_ids=[6]))
    assert (whole.text, whole.text_tokens) == ("é", 2)


def test_with_the_end_ignored_it_is_output_like_any_other() -> None:
    """ignore_eos."""
    delta = running(ignore_eos=True).feed(Output(token_ids=[1, END], finish_reason=FinishReason.LENGTH))
    assert delta.token_ids == (1, END)


def test_an_end_of_ours_carries_the_counts() -> None:
    """Aborts and deadlines."""
    one = running()
    one.feed(Output(token_ids=[1]))
    last = one.end(FinishReason.ABORTED, "why")
    assert last.usage is not None
    assert (last.usage.completion_tokens, last.error, last.position, last.token_count) == (1, "why", 1, 0)
