"""Server-sent events from pre-encoded parts: per chunk, one text is encoded and three byte strings are joined."""

from collections.abc import Sequence
from typing import Any

import msgspec

from protos.contract.stream import FinishReason, Usage
from router.domain.answer import AnswerHead, Chunk, Continuation
from router.domain.request import RequestKind
from router.http.dialects.logprobs import CompletionLogprobs, chat_logprobs
from router.http.dialects.openai_bodies import disclosure, usage_body

DONE = b"data: [DONE]\n\n"
SIGN_OF_LIFE = b": the prompt is being read\n\n"
"""A comment: clients pass over it."""

_encode = msgspec.json.encode


class SseWriter:
    """Events of one answer. With ``include_usage`` every event has a ``usage`` field, filled in the last one."""

    def __init__(self, kind: RequestKind, head: AnswerHead, *, created: int, include_usage: bool) -> None:
        chat = kind is RequestKind.CHAT
        self._head = head
        self._chat = chat
        self._include_usage = include_usage
        self._offsets = CompletionLogprobs()
        self._base = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":' % (
            _encode(head.request_id),
            b"chat.completion.chunk" if chat else b"text_completion",
            created,
            _encode(head.model),
        )
        ending = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._open = self._base + (b'[{"index":0,"delta":{"content":' if chat else b'[{"index":0,"text":')
        self._middle = b'},"logprobs":' if chat else b',"logprobs":'
        self._close = b',"finish_reason":null}]' + ending
        self._plain = self._middle + b"null" + self._close

    def opening(self) -> bytes:
        """The role, which comes first in a chat; nothing for a completion."""
        if not self._chat:
            return b""
        return self._base + b'[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}' + self._plain[1:]

    def text(self, chunk: Chunk) -> bytes:
        """New text, after what was thought before it; empty bytes when the chunk brings neither."""
        if chunk.reasoning and self._chat:
            return self._reasoning(chunk.reasoning) + self.text(msgspec.structs.replace(chunk, reasoning=""))
        if chunk.logprobs:
            shaped = chat_logprobs(chunk.logprobs) if self._chat else self._offsets.take(chunk.logprobs)
            return b"".join((self._open, _encode(chunk.text), self._middle, _encode(shaped), self._close))
        if not chunk.text:
            return b""
        return b"".join((self._open, _encode(chunk.text), self._plain))

    def _reasoning(self, text: str) -> bytes:
        """Under the name that most clients read: DeepSeek's."""
        return self._base + b'[{"index":0,"delta":{"reasoning_content":' + _encode(text) + self._plain

    def ending(self, finish_reason: FinishReason, usage: Usage, continuations: Sequence[Continuation]) -> bytes:
        """The finish reason with what we disclose, the usage if asked for, and the end of the stream."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": str(finish_reason)}
        choice["delta" if self._chat else "text"] = {} if self._chat else ""
        last = self._base + _encode([choice]) + b',"allsorts":' + _encode(disclosure(self._head, continuations))
        if not self._include_usage:
            return last + b"}\n\n" + DONE
        counted = self._base + b'[],"usage":' + _encode(usage_body(usage)) + b"}\n\n"
        return last + b',"usage":null}\n\n' + counted + DONE
