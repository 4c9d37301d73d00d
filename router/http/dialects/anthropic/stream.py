"""An answer as Anthropic's events: blocks of thought, text and calls, each begun, filled and ended.

A delta of text is joined from pre-encoded parts; everything rarer is encoded from the types of ``answers.py``.
"""

import msgspec

from protos.contract.stream import Usage
from protos.contract.tools import ToolCallDelta
from router.domain.answer import Chunk
from router.http.dialects.anthropic.answers import (
    AnswerBlock,
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    MessageAnswer,
    MessageDelta,
    MessageStart,
    MessageStop,
    TextBlock,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    stop_reason,
    usage_body,
)
from router.http.dialects.dialect import Told
from router.http.dialects.shared.disclosure import disclosure

_encode = msgspec.json.encode


def event(name: bytes, data: msgspec.Struct) -> bytes:
    """One event."""
    return b"event: " + name + b"\ndata: " + _encode(data) + b"\n\n"


class EventWriter:
    """Of one answer."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._index = -1  # of the block under way
        self._open = ""  # "text", "thinking", "call N" or nothing
        self._text = (b"", b"")
        self._called = False

    def opening(self) -> bytes:
        """``message_start``: the prompt is counted, nothing is said."""
        head = self._told.head
        message = MessageAnswer(
            id=self._told.request_id,
            model=self._told.model,
            content=[],
            stop_reason=None,
            usage=usage_body(Usage(prompt_tokens=head.prompt_tokens)),
        )
        return event(b"message_start", MessageStart(message=message))

    def chunk(self, chunk: Chunk) -> bytes:
        """Thought before text before calls."""
        written = b""
        if chunk.reasoning:
            written += self._block("thinking", ThinkingBlock(thinking=""))
            written += self._delta(BlockDelta(index=self._index, delta=ThinkingDelta(thinking=chunk.reasoning)))
        if chunk.text:
            written += self._block("text", TextBlock(text=""))
            written += b"".join((self._text[0], _encode(chunk.text), self._text[1]))
        for call in chunk.tool_calls:
            written += self._call(call)
        return written

    def ending(self, chunk: Chunk, usage: Usage) -> bytes:
        """What is still new, the last block's end, and the message's."""
        assert chunk.finish_reason is not None
        written = self.chunk(chunk) + self._close()
        end = stop_reason(chunk.finish_reason, chunk.stopped_by, calls=self._called)
        disclosed = disclosure(self._told.head, chunk.continuations)
        last = MessageDelta(delta=end, usage=usage_body(usage), allsorts=disclosed)
        return written + event(b"message_delta", last) + event(b"message_stop", MessageStop())

    def _call(self, call: ToolCallDelta) -> bytes:
        self._called = True
        written = self._block(f"call {call.index}", ToolUseBlock(id=call.id, name=call.name, input={}))
        if call.arguments:
            written += self._delta(BlockDelta(index=self._index, delta=InputDelta(partial_json=call.arguments)))
        return written

    def _block(self, what: str, begun: AnswerBlock) -> bytes:
        """``what`` is under way from here; nothing to say when it is already."""
        if self._open == what:
            return b""
        ended = self._close()
        self._index += 1
        self._open = what
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % self._index
        self._text = (head + b'{"type":"text_delta","text":', b"}}\n\n")
        return ended + event(b"content_block_start", BlockStart(index=self._index, content_block=begun))

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return event(b"content_block_stop", BlockStop(index=self._index))

    def _delta(self, delta: BlockDelta) -> bytes:
        return event(b"content_block_delta", delta)
