"""``POST /v1/chat/completions``."""

from collections.abc import Sequence

from msgspec import UNSET

from protos.contract.stream import Usage
from router.domain.answer import Chunk
from router.errors import InvalidRequest
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Told
from router.http.dialects.openai.answers import (
    ChatChoice,
    ChatCompletion,
    ChatPiece,
    MessageBody,
    MessagePiece,
    call_bodies,
    call_pieces,
    finish_of,
    usage_body,
)
from router.http.dialects.openai.endpoint import OpenAIEndpoint
from router.http.dialects.openai.fields import StreamOptions
from router.http.dialects.openai.logprobs import chat_logprobs
from router.http.dialects.openai.messages import chat_messages
from router.http.dialects.openai.sampling import (
    check_stream_options,
    common_wishes,
    sampling_of,
    template_arguments,
    unset_of,
)
from router.http.dialects.openai.schema import ChatRequest
from router.http.dialects.openai.sse import EventFrame, encode
from router.http.dialects.openai.tools import tooling_of
from router.http.dialects.openai.unsupported import refuse_unsupported
from router.http.dialects.shared.disclosure import disclosure
from router.http.dialects.shared.wish import Wish


def wish_of(body: ChatRequest) -> Wish:
    """Rules between fields are checked here. Raises InvalidRequest."""
    refuse_unsupported(body)
    check_stream_options(body)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise InvalidRequest(
            "Give 'max_completion_tokens' or 'max_tokens', not two different ones", param="max_completion_tokens"
        )
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    thinking = {"enable_thinking": False} if body.reasoning_effort == "none" else {}
    return Wish(
        model=body.model,
        messages=chat_messages(body.messages),
        sampling=sampling_of(body, max_tokens=limit, logprobs=body.top_logprobs or 0 if body.logprobs else None),
        unset=unset_of(body, limit),
        tooling=tooling_of(body),
        template_arguments=template_arguments(
            body.chat_template_kwargs, reasoning_effort=body.reasoning_effort, **thinking
        ),
        **common_wishes(body),
    )


_ROLE = b'[{"index":%d,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]'


class ChatWriter:
    """See ``Writer``."""

    def __init__(self, told: Told, options: StreamOptions | None) -> None:
        self._told = told
        self._frame = EventFrame(told, b"chat.completion.chunk", options)
        self._opens = [
            self._frame.base + b'[{"index":%d,"delta":{"content":' % index for index in range(len(told.prompt_of))
        ]
        self._middle = b'},"logprobs":null,"finish_reason":null}]'
        self._end = self._middle + self._frame.plain if self._frame.plain else b""

    def opening(self) -> bytes:
        """The role, which comes first, of every answer."""
        end = self._frame.after()
        return b"".join([self._frame.base + _ROLE % index + end for index in range(len(self._opens))])

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        """What was thought before what is said, said before what is called."""
        if self._end and chunk.text and not (chunk.reasoning or chunk.logprobs or chunk.tool_calls):
            return b"".join((self._opens[index], encode(chunk.text), self._end))  # nearly every one
        written = self._thought(index, chunk) if chunk.reasoning else b""
        if chunk.logprobs:
            written += self._event(index, MessagePiece(content=chunk.text), chunk)
        elif chunk.text:
            written += b"".join((self._opens[index], encode(chunk.text), self._middle, self._frame.after(chunk)))
        if chunk.tool_calls:
            written += self._event(index, MessagePiece(tool_calls=call_pieces(chunk.tool_calls)))
        return written

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:  # noqa: ARG002 - as every writer
        """The finish reason with what we disclose."""
        assert chunk.finish_reason is not None
        piece = ChatPiece(
            index=index, delta=MessagePiece(), logprobs=None, finish_reason=finish_of(chunk.finish_reason)
        )
        disclosed = disclosure(self._told.head, chunk.continuations, self._told.ttft_s())
        return self.chunk(index, chunk) + self._frame.last(encode([piece]), disclosed, Chunk())

    def closing(self, usage: Usage) -> bytes:
        """The usage if asked for, and the end of the stream."""
        return self._frame.closing(usage)

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """A ``chat.completion``."""
        return encode(
            ChatCompletion(
                id=self._told.request_id,
                created=self._told.created,
                model=self._told.model,
                choices=[_choice(index, answer) for index, answer in enumerate(answers)],
                usage=usage_body(usage),
                allsorts=disclosure(answers[0].head, answers[0].continuations),
            )
        )

    def _thought(self, index: int, chunk: Chunk) -> bytes:
        """Under the name that most clients read: DeepSeek's."""
        piece = MessagePiece(reasoning_content=chunk.reasoning)
        return self._event(index, piece, None if chunk.text or chunk.logprobs else chunk)

    def _event(self, index: int, delta: MessagePiece, chunk: Chunk | None = None) -> bytes:
        logprobs = chat_logprobs(chunk.logprobs) if chunk is not None and chunk.logprobs else None
        piece = ChatPiece(index=index, delta=delta, logprobs=logprobs, finish_reason=None)
        return self._frame.base + encode([piece]) + self._frame.after(chunk)


def _choice(index: int, answer: Collected) -> ChatChoice:
    calls = answer.tool_calls
    return ChatChoice(
        index=index,
        message=MessageBody(
            content=answer.text or (None if calls else ""),
            reasoning_content=answer.reasoning or UNSET,
            tool_calls=call_bodies(calls),
        ),
        logprobs=chat_logprobs(tuple(answer.logprobs)) if answer.logprobs else None,
        finish_reason=finish_of(answer.finish_reason),
    )


def openai_chat(*, strict: bool) -> OpenAIEndpoint[ChatRequest]:
    """The dialect of this endpoint."""
    return OpenAIEndpoint(
        "openai.chat", id_prefix="chatcmpl", body=ChatRequest, wish_of=wish_of, writing=ChatWriter, strict=strict
    )
