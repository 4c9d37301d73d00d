"""An answer as Ollama's lines of JSON. Calls come whole, with the last line but one."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from protos.contract.stream import FinishReason, TokenLogprob, Usage
from router.domain.answer import Chunk
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Told
from router.http.dialects.ollama.answers import (
    GenerateAnswer,
    MessageBody,
    OllamaChatAnswer,
    OllamaToken,
    call_bodies,
    measured,
    moment,
)
from router.http.dialects.openai.logprobs import chat_logprobs
from router.http.dialects.shared.disclosure import disclosure

_encode = msgspec.json.encode


class ChatLines:
    """See ``Writer``."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self._created = moment(told.created)
        self._first_s = 0.0
        self._calls = Collected(told.head)
        head = b'{"model":%b,"created_at":%b,' % (_encode(told.model), _encode(self._created))
        self._text = (head + self._opens, self._closes)

    _opens = b'"message":{"role":"assistant","content":'
    _closes = b'},"done":false}\n'

    def opening(self) -> bytes:
        """Nothing comes before the first words."""
        return b""

    def chunk(self, index: int, chunk: Chunk) -> bytes:  # noqa: ARG002 - there is one answer
        """A line for new words, one for new thoughts."""
        self._first_s = self._first_s or self.told.elapsed_s()
        if chunk.tool_calls:
            self._calls.add(Chunk(tool_calls=chunk.tool_calls))
        written = b""
        if chunk.reasoning:
            written += self.line("", thinking=chunk.reasoning)
        if chunk.logprobs:
            written += self.line(chunk.text, logprobs=_tokens(chunk.logprobs))
        elif chunk.text:
            written += self._text[0] + _encode(chunk.text) + self._text[1]
        return written

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:
        """Calls, then the line that says how long it all took."""
        assert chunk.finish_reason is not None
        written = self.chunk(index, chunk)
        if self._calls.tool_calls:
            written += self.line("", calls=self._calls)
        return written + self.line("", ends=(chunk.finish_reason, usage, chunk))

    def closing(self, usage: Usage) -> bytes:  # noqa: ARG002
        """Nothing is left to say."""
        return b""

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """One line with everything."""
        if not answers:
            return self.loaded()
        answer = answers[0]
        return self.line(
            answer.text,
            thinking=answer.reasoning,
            calls=answer,
            logprobs=_tokens(tuple(answer.logprobs)) if answer.logprobs else UNSET,
            ends=(answer.finish_reason, usage, answer.last or Chunk()),
        )

    def line(
        self,
        text: str,
        *,
        thinking: str = "",
        calls: Collected | None = None,
        logprobs: list[OllamaToken] | UnsetType = UNSET,
        ends: tuple[FinishReason, Usage, Chunk] | None = None,
    ) -> bytes:
        """One line of the stream."""
        message = MessageBody(
            content=text,
            thinking=thinking or UNSET,
            tool_calls=UNSET if calls is None else call_bodies(calls.tool_calls),
        )
        body = OllamaChatAnswer(
            model=self.told.model,
            created_at=self._created,
            message=message,
            logprobs=logprobs,
            done=ends is not None,
            **self.figures(ends),
        )
        return _encode(body) + b"\n"

    def loaded(self) -> bytes:
        """Nothing was asked; the model is there."""
        return _encode(
            OllamaChatAnswer(
                model=self.told.model, created_at=self._created, message=MessageBody(), done=True, done_reason="load"
            )
        )

    def figures(self, ends: tuple[FinishReason, Usage, Chunk] | None) -> dict[str, Any]:
        """Of a complete answer."""
        if ends is None:
            return {}
        reason, usage, last = ends
        return measured(self.told, reason, usage, disclosure(self.told.head, last.continuations), self._first_s)


class GenerateLines(ChatLines):
    """The same with the words under another name."""

    _opens = b'"response":'
    _closes = b',"done":false}\n'

    def line(
        self,
        text: str,
        *,
        thinking: str = "",
        calls: Collected | None = None,  # noqa: ARG002 - nothing is offered to be called
        logprobs: list[OllamaToken] | UnsetType = UNSET,
        ends: tuple[FinishReason, Usage, Chunk] | None = None,
    ) -> bytes:
        """One line of the stream."""
        body = GenerateAnswer(
            model=self.told.model,
            created_at=self._created,
            response=text,
            thinking=thinking or UNSET,
            logprobs=logprobs,
            done=ends is not None,
            **self.figures(ends),
        )
        return _encode(body) + b"\n"

    def loaded(self) -> bytes:
        """Nothing was asked; the model is there."""
        return _encode(
            GenerateAnswer(model=self.told.model, created_at=self._created, response="", done=True, done_reason="load")
        )


def _tokens(tokens: tuple[TokenLogprob, ...]) -> list[OllamaToken]:
    return [
        OllamaToken(
            token=one.token,
            logprob=one.logprob,
            bytes=one.bytes,
            top_logprobs=[
                OllamaToken(token=top.token, logprob=top.logprob, bytes=top.bytes) for top in one.top_logprobs
            ],
        )
        for one in chat_logprobs(tokens).content
    ]
