"""``POST /v1/messages`` and ``POST /v1/messages/count_tokens``."""

from collections.abc import Sequence

import msgspec

from protos.contract.stream import Usage
from router.domain.answer import Chunk
from router.errors import AllsortsError
from router.http.dialects.anthropic.answers import (
    AnswerBlock,
    MessageAnswer,
    TextBlock,
    ThinkingBlock,
    TokenCountAnswer,
    error_answer,
    stop_reason,
    tool_use,
    usage_body,
)
from router.http.dialects.anthropic.schema import UNDOABLE, CountRequest, MessagesRequest
from router.http.dialects.anthropic.stream import EventWriter, event
from router.http.dialects.anthropic.translate import wish_of
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Call, Told
from router.http.dialects.openai.sse import SIGN_OF_LIFE
from router.http.dialects.shared.disclosure import disclosure
from router.http.dialects.shared.silent import SilentWriter
from router.http.server.decoding import BodyDecoder
from router.http.server.exchange import EVENT_STREAM


class AnthropicMessages:
    """See ``Dialect``."""

    name = "anthropic.messages"
    id_prefix = "msg"
    stream_type = EVENT_STREAM
    sign_of_life = SIGN_OF_LIFE
    any_type = False

    def __init__(self, *, strict: bool) -> None:
        self._decoder = BodyDecoder(MessagesRequest, strict=strict, undoable=UNDOABLE)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._decoder.decode(body)
        return Call(wish=wish_of(asked), stream=bool(asked.stream), writing=MessageWriter, ignored=ignored)

    def error(self, error: AllsortsError) -> bytes:
        """``{"type": "error", …}``."""
        return msgspec.json.encode(error_answer(error))

    def error_event(self, error: AllsortsError) -> bytes:
        """The same as an event."""
        return event(b"error", error_answer(error))


class AnthropicCount(AnthropicMessages):
    """Counted by a worker, exactly; nothing is generated."""

    name = "anthropic.count_tokens"

    def __init__(self, *, strict: bool) -> None:
        self._counting = BodyDecoder(CountRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._counting.decode(body)
        return Call(wish=wish_of(asked), stream=False, writing=CountWriter, ignored=ignored, count_only=True)


class CountWriter(SilentWriter):
    """Writes the count."""

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:  # noqa: ARG002 - as every writer
        """``{"input_tokens": …}``."""
        return msgspec.json.encode(TokenCountAnswer(input_tokens=usage.prompt_tokens))


class MessageWriter:
    """See ``Writer``."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._events = EventWriter(told)

    def opening(self) -> bytes:
        """``message_start``."""
        return self._events.opening()

    def chunk(self, index: int, chunk: Chunk) -> bytes:  # noqa: ARG002 - there is one answer
        """Deltas of blocks, and where blocks begin and end."""
        return self._events.chunk(chunk)

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:  # noqa: ARG002
        """The last block's end, ``message_delta`` and ``message_stop``."""
        return self._events.ending(chunk, usage)

    def closing(self, usage: Usage) -> bytes:  # noqa: ARG002
        """Nothing is left to say."""
        return b""

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """A ``message``."""
        answer = answers[0]
        blocks: list[AnswerBlock] = []
        if answer.reasoning:
            blocks.append(ThinkingBlock(thinking=answer.reasoning))
        if answer.text:
            blocks.append(TextBlock(text=answer.text))
        blocks.extend(tool_use(call) for call in answer.tool_calls)
        end = stop_reason(answer.finish_reason, answer.stopped_by, calls=bool(answer.tool_calls))
        return msgspec.json.encode(
            MessageAnswer(
                id=self._told.request_id,
                model=self._told.model,
                content=blocks,
                stop_reason=end.stop_reason,
                stop_sequence=end.stop_sequence,
                usage=usage_body(usage),
                allsorts=disclosure(answer.head, answer.continuations),
            )
        )
