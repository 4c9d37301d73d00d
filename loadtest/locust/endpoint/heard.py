"""What one streamed answer brought: times of its events, its text, its usage, and who gave it."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

_ERROR_SHOWN = 300


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    id: str | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    allsorts: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(slots=True)
class Heard:
    """One answer as it came. Times are of the monotonic clock."""

    sent: float = 0.0  # before a connection was looked for
    written: float | None = None  # when the whole request was handed to a connection
    ended: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)  # of each event that carried output
    pieces: list[str] = field(default_factory=list)  # the answer's text; thoughts are not part of it
    calls: dict[int, dict[str, str]] = field(default_factory=dict)  # tool calls by index
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    request_id: str = ""
    disclosed: dict[str, Any] = field(default_factory=dict)  # the ``allsorts`` object of the last event
    done: bool = False
    code: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    def answered(self, status: int, headers: dict[str, str]) -> None:
        """The answer's head, header names in lower case."""
        self.status = status
        self.headers = headers
        self.request_id = headers.get("x-request-id", "")

    def refused(self, body: bytes) -> None:
        """An error status with its body: OpenAI's shape, or whatever it is."""
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = None
        self._error(said.get("error", said) if isinstance(said, dict) else body.decode("utf-8", "replace"))

    def failed(self, code: str, message: str) -> None:
        """Something went wrong on the way. The first reason stays."""
        if not self.error:
            self.code, self.error = code, message[:_ERROR_SHOWN]

    def event(self, data: bytes, at: float) -> None:
        """One server-sent event's data."""
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.failed("bad_event", str(error))
            return
        if event.error is not None:
            self._error(event.error)
            return
        self.request_id = self.request_id or event.id or ""
        if event.usage is not None:
            self._count(event.usage)
        if event.allsorts is not None:
            self.disclosed = event.allsorts
        spoke = False
        for choice in event.choices:
            spoke = self._choice(choice) or spoke
        if spoke:
            self.at.append(at)

    def _choice(self, choice: _Choice) -> bool:
        """Whether it carried output."""
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta or _Delta()
        text = delta.content or choice.text
        if text:
            self.pieces.append(text)
        for call in delta.tool_calls or ():
            held = self.calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            held["id"] = call.id or held["id"]
            if call.function is not None:
                held["name"] += call.function.name or ""
                held["arguments"] += call.function.arguments or ""
        return bool(text or delta.reasoning_content or delta.reasoning or delta.tool_calls)

    def _count(self, usage: _Usage) -> None:
        self.prompt_tokens = usage.prompt_tokens
        self.completion_tokens = usage.completion_tokens
        details = usage.prompt_tokens_details
        self.cached_tokens = (details.cached_tokens or 0) if details else 0

    def _error(self, said: Any) -> None:
        if isinstance(said, dict):
            code = said.get("code") or said.get("type") or self.status
            self.failed(str(code), str(said.get("message") or said))
        else:
            self.failed(str(self.status or "error"), str(said) or "no message")
