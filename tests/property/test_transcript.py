"""No token is lost and none doubled, wherever a stream is cut."""

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import RequestId
from protos.contract.stream import Delta, FinishReason, TokenLogprob, Usage
from router.dispatch.transcript import Transcript

TOKENS = [f"w{i} " for i in range(40)]
"""The answer every worker would give: token i reads ``wi``."""


def deltas(start: int, end: int, held_back: int, sizes: list[int], attempt: int, *, finish: bool) -> list[Delta]:
    """What a worker sends that starts at token ``start`` and gets to ``end``, releasing text ``held_back`` late."""
    out: list[Delta] = []
    position, released = 0, 0
    count = end - start
    while position < count:
        n = min(sizes[len(out) % len(sizes)], count - position)
        release_to = max(released, position + n - held_back)
        out.append(
            Delta(
                request_id=RequestId("r"),
                attempt=attempt,
                position=position,
                text="".join(TOKENS[start + released : start + release_to]),
                token_ids=tuple(range(start + position, start + position + n)),
                token_count=n,
                text_tokens=release_to,
                logprobs=tuple(
                    TokenLogprob(token_id=i, token=b"", logprob=-1.0)
                    for i in range(start + position, start + position + n)
                ),
            )
        )
        position, released = position + n, release_to
    if finish:
        out.append(
            Delta(
                request_id=RequestId("r"),
                attempt=attempt,
                position=position,
                text="".join(TOKENS[start + released : end]),
                finish_reason=FinishReason.LENGTH,
                text_tokens=position,
                usage=Usage(prompt_tokens=3, completion_tokens=position),
            )
        )
    return out


@given(
    cuts=st.lists(st.integers(0, 15), max_size=4),
    held_back=st.integers(0, 5),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
)
def test_a_stream_cut_anywhere_reads_as_if_never_cut(cuts: list[int], held_back: int, sizes: list[int]) -> None:
    """Text, token count, token ids and log-probabilities equal those of one unbroken attempt."""
    transcript = Transcript(fingerprint="t")
    logprobs: list[int] = []
    for attempt, length in enumerate([*cuts, len(TOKENS)], start=1):
        resume = transcript.resume()
        start = resume.output_tokens if resume else 0
        if resume is not None:
            assert resume.text == "".join(TOKENS[:start])
            assert resume.token_ids == tuple(range(start))
        end = min(len(TOKENS), start + length)
        last = attempt == len(cuts) + 1
        for delta in deltas(start, len(TOKENS) if last else end, held_back, sizes, attempt, finish=last):
            logprobs.extend(p.token_id for p in transcript.absorb(delta))
        if not last:
            transcript.settle()
    assert "".join(transcript.text) == "".join(TOKENS)
    assert transcript.output_tokens == len(TOKENS)
    assert logprobs == list(range(len(TOKENS)))


def test_ids_that_are_not_all_known_are_not_used() -> None:
    """A worker that sends no ids leaves text alone to go on from."""
    transcript = Transcript(fingerprint="t")
    transcript.absorb(Delta(request_id=RequestId("r"), attempt=1, position=0, text="ab", token_count=2, text_tokens=2))
    transcript.settle()
    resume = transcript.resume()
    assert resume is not None
    assert (resume.text, resume.token_ids, resume.tokenizer_fingerprint) == ("ab", (), "")
