"""From an answer's tokens to what a delta says: whole characters, stop strings, thoughts, text and calls. Pure."""

from typing import Any

from protos.contract.tools import ToolCallDelta
from workers.engines.detokenizer import Detokenizer
from workers.engines.tool_calls.output import Channels
from workers.engines.tool_calls.parsed import Parsed


class Speech:
    """One answer's mouth. ``channels`` None: all of it is text. ``sent``: what the client has of it already."""

    def __init__(self, stop: tuple[str, ...], channels: Channels | None = None, sent: str = "") -> None:
        self._detokenizer = Detokenizer(stop)
        self._channels = channels
        self._text: list[str] = []
        self._raw: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCallDelta] = []
        self.answered = ""
        """What the last token gave of the answer that a grammar is for, as it was written."""
        if channels is not None and sent:
            channels.feed(sent)
            self.answered = channels.answered

    def feed(self, piece: bytes) -> None:
        """One more token."""
        text = self._detokenizer.feed(piece)
        if self._channels is None:
            self._text.append(text)
        elif text:
            self._hear(text, self._channels.feed(text))
        if self._channels is not None:
            self.answered = self._channels.answered if text else ""

    def end(self) -> None:
        """The answer is over: what was held back is said."""
        text = self._detokenizer.flush()
        if self._channels is None:
            self._text.append(text)
            return
        if text:
            self._hear(text, self._channels.feed(text))
        self._hear("", self._channels.finish())

    def take(self) -> dict[str, Any]:
        """The fields of a delta that say what is new."""
        said: dict[str, Any] = {"text": "".join(self._text)}
        self._text.clear()
        if self._channels is None:
            return said
        raw = "".join(self._raw)
        said["reasoning"] = "".join(self._reasoning)
        said["tool_calls"] = tuple(self._calls)
        said["raw"] = "" if raw == said["text"] else raw
        for part in (self._raw, self._reasoning, self._calls):
            part.clear()
        return said

    def _hear(self, raw: str, parsed: Parsed) -> None:
        self._raw.append(raw)
        self._text.append(parsed.text)
        self._reasoning.append(parsed.reasoning)
        self._calls.extend(parsed.calls)

    @property
    def over(self) -> bool:
        """A stop string came, or the only call there may be is complete."""
        return self._detokenizer.stopped or (self._channels is not None and self._channels.complete)

    @property
    def stopped_by(self) -> str:
        """The stop string that ended it."""
        return self._detokenizer.stopped_by

    @property
    def text_tokens(self) -> int:
        """Tokens all of whose text has been released."""
        return self._detokenizer.text_tokens

    @property
    def called(self) -> bool:
        """It has calls."""
        return self._channels is not None and self._channels.called

    @property
    def answering(self) -> bool:
        """Thoughts are over: what a grammar is for has begun."""
        return self._channels is None or self._channels.answering
