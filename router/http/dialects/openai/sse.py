"""Server-sent events from pre-encoded parts: per chunk of text, one text is encoded and a few byte strings are joined.

What comes rarely (calls, log-probabilities, ends) is encoded from the types of ``answers.py``; a test holds both alike.
"""

import msgspec

from protos.contract.stream import Usage
from router.domain.answer import Chunk
from router.http.dialects.dialect import Told
from router.http.dialects.openai.answers import usage_body
from router.http.dialects.openai.fields import StreamOptions
from router.http.dialects.shared.disclosure import Disclosure

DONE = b"data: [DONE]\n\n"
SIGN_OF_LIFE = b": the prompt is being read\n\n"
"""A comment: clients pass over it."""

encode = msgspec.json.encode


class EventFrame:
    """The part of every event that is the same, around its ``choices``.

    With ``include_usage`` every event has a ``usage`` field, filled in the last one, or in each with
    ``continuous_usage_stats``.
    """

    def __init__(self, told: Told, kind: bytes, options: StreamOptions | None) -> None:
        self._include = bool(options and (options.include_usage or options.continuous_usage_stats))
        self._running = bool(options and options.continuous_usage_stats)
        self._prompt_tokens = told.head.prompt_tokens
        self._completion_tokens = 0
        self.base = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":' % (
            encode(told.request_id),
            kind,
            told.created,
            encode(told.model),
        )
        self._plain = b',"usage":null}\n\n' if self._include else b"}\n\n"

    @property
    def plain(self) -> bytes:
        """What follows the choices of an event that says nothing else; empty where each says something of its own."""
        return b"" if self._running else self._plain

    def after(self, chunk: Chunk | None = None) -> bytes:
        """What follows an event's choices."""
        if not self._running:
            return self._plain
        self._completion_tokens += 0 if chunk is None else chunk.token_count
        so_far = Usage(prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens)
        return b',"usage":' + encode(usage_body(so_far)) + b"}\n\n"

    def last(self, choices: bytes, disclosed: Disclosure, chunk: Chunk) -> bytes:
        """The last event of one answer."""
        return self.base + choices + b',"allsorts":' + encode(disclosed) + self.after(chunk)

    def closing(self, usage: Usage) -> bytes:
        """The usage if asked for, and the end of the stream."""
        if not self._include:
            return DONE
        return self.base + b'[],"usage":' + encode(usage_body(usage)) + b"}\n\n" + DONE
