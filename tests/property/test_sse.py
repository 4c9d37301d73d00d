"""Whatever text workers send, a client's parser gets back exactly that text."""

import json

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage
from router.domain.answer import AnswerHead, Chunk
from router.domain.request import RequestKind
from router.http.dialects.sse import SseWriter

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


@given(
    texts=st.lists(st.tuples(TEXT, st.lists(TOKEN, max_size=2).map(tuple)), max_size=5),
    kind=st.sampled_from(RequestKind),
    include_usage=st.booleans(),
    model=TEXT,
)
def test_a_stream_gives_back_the_text_that_went_in(
    texts: list[tuple[str, tuple[TokenLogprob, ...]]], kind: RequestKind, include_usage: bool, model: str
) -> None:
    head = AnswerHead(
        request_id=RequestId("r"), worker_id=WorkerId("w"), node="n", model=model, quantization="q", prompt_tokens=1
    )
    writer = SseWriter(kind, head, created=1, include_usage=include_usage)
    stream = writer.opening() + b"".join(writer.text(Chunk(text=text, logprobs=logprobs)) for text, logprobs in texts)
    stream += writer.ending(FinishReason.STOP, Usage(), ())
    *events, done, empty = stream.decode().split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: "), parse_constant=_refuse) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    chat = kind is RequestKind.CHAT
    got = "".join(choice["delta"].get("content", "") if chat else choice["text"] for choice in choices)
    assert got == "".join(text for text, _ in texts)
    assert all(chunk["model"] == model for chunk in chunks)
    assert all(("usage" in chunk) == include_usage for chunk in chunks)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
