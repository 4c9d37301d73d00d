"""Whatever text workers send, a client's parser gets back exactly that text."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage
from router.domain.answer import AnswerHead, Chunk
from router.http.dialects.dialect import Told
from router.http.dialects.openai.answers import ChatCompletionChunk, CompletionChunk
from router.http.dialects.openai.chat import ChatWriter
from router.http.dialects.openai.completions import CompletionWriter
from router.http.dialects.openai.fields import StreamOptions

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
TOKEN = st.builds(
    TokenLogprob,
    token_id=st.integers(0, 2**32 - 1),
    token=st.binary(max_size=8),
    logprob=st.floats(),
    top=st.lists(
        st.builds(TopLogprob, token_id=st.integers(0, 9), token=st.binary(max_size=4), logprob=st.floats()), max_size=3
    ).map(tuple),
)


WRITERS: dict[str, Any] = {"chat": ChatWriter, "completion": CompletionWriter}


@given(
    texts=st.lists(st.tuples(TEXT, st.lists(TOKEN, max_size=2).map(tuple)), max_size=5),
    kind=st.sampled_from(sorted(WRITERS)),
    include_usage=st.booleans(),
    running=st.booleans(),
    model=TEXT,
)
def test_a_stream_gives_back_the_text_that_went_in(
    texts: list[tuple[str, tuple[TokenLogprob, ...]]], kind: str, include_usage: bool, running: bool, model: str
) -> None:
    head = AnswerHead(
        request_id=RequestId("r"), worker_id=WorkerId("w"), node="n", model=model, quantization="q", prompt_tokens=1
    )
    told = Told(
        request_id=RequestId("r"),
        model=model,
        head=head,
        created=1,
        prompt_of=(0,),
        waited_s=0.1,
        elapsed_s=lambda: 0.2,
    )
    options = StreamOptions(include_usage=include_usage, continuous_usage_stats=running)
    writer = WRITERS[kind](told, options)
    stream = writer.opening() + b"".join(
        writer.chunk(0, Chunk(text=text, logprobs=logprobs)) for text, logprobs in texts
    )
    stream += writer.ending(0, Chunk(finish_reason=FinishReason.STOP), Usage()) + writer.closing(Usage())
    *events, done, empty = stream.decode().split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: "), parse_constant=_refuse) for event in events]
    for chunk in chunks:
        msgspec.convert(chunk, ChatCompletionChunk if kind == "chat" else CompletionChunk)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    got = "".join(choice["delta"].get("content", "") if kind == "chat" else choice["text"] for choice in choices)
    assert got == "".join(text for text, _ in texts)
    assert all(chunk["model"] == model for chunk in chunks)
    assert all(("usage" in chunk) == (include_usage or running) for chunk in chunks)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
