"""Gemma's calls: ``call:name{key:<escape>text<escape>,count:3}`` between marks, told as JSON once complete."""

import json
from collections.abc import Callable
from typing import Any

from protos.contract.tools import ToolCallDelta
from workers.engines.tool_calls.json_call import SPACE
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.parsed import Parsed, first_of, held_back

QUOTES = ("<escape>", '<|"|>')
"""Around a text: FunctionGemma's, Gemma 4's."""

CALL = "call:"

MAX_DEPTH = 64


class NoCall(ValueError):
    """It is written otherwise."""


class GemmaParser:
    """Reads text and calls. A call is told of when its end mark comes: its values are no JSON before."""

    def __init__(self, form: Format, known: frozenset[str], make_id: Callable[[], str]) -> None:
        del known
        self._form = form
        self._make_id = make_id
        self._rest = ""
        self._mark = ""  # that began the call under way
        self.calls = 0

    @property
    def complete_calls(self) -> int:
        """All of them."""
        return self.calls

    def feed(self, text: str) -> Parsed:
        """What is certain by now."""
        out = Parsed()
        self._rest += text
        while self._advance(out):
            pass
        return out

    def finish(self) -> Parsed:
        """What was held back; half a call is text."""
        held, self._rest = self._mark + self._rest, ""
        self._mark = ""
        return Parsed(text=held if not self.calls or held.strip() else "")

    def _advance(self, out: Parsed) -> bool:
        if self._mark:
            return self._in_call(out)
        at, mark = first_of(self._rest, self._form.starts)
        if at >= 0:
            out.text += self._rest[:at]
            self._mark, self._rest = mark, self._rest[at + len(mark) :]
            return True
        keep = held_back(self._rest, self._form.starts)
        said, self._rest = self._rest[: len(self._rest) - keep], self._rest[len(self._rest) - keep :]
        out.text += said if not self.calls or said.strip() else ""
        return False

    def _in_call(self, out: Parsed) -> bool:
        at, mark = first_of(self._rest, self._form.ends)
        if at < 0:
            return False
        body, self._rest = self._rest[:at], self._rest[at + len(mark) :]
        try:
            name, arguments = read_call(body)
        except NoCall:
            out.text += self._mark + body + mark
        else:
            head = ToolCallDelta(index=self.calls, id=self._make_id(), name=name)
            out.calls = (*out.calls, head, ToolCallDelta(index=self.calls, arguments=json.dumps(arguments)))
            self.calls += 1
        self._mark = ""
        return True


def read_call(body: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments. Raises NoCall.

    >>> read_call('call:weather{city:<escape>Rome<escape>,days:3}')
    ('weather', {'city': 'Rome', 'days': 3})
    """
    head, brace, _ = body.partition("{")
    if not brace or not head.strip().startswith(CALL):
        raise NoCall("no call")
    reader = _Reader(body[len(head) :])
    value = reader.value(0)
    if not isinstance(value, dict):
        raise NoCall("no arguments")
    return head.strip()[len(CALL) :].strip(), value


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self, depth: int) -> Any:
        self._skip()
        if depth > MAX_DEPTH:
            raise NoCall("nested too deep")
        for quote in (*QUOTES, '"'):
            if self._text.startswith(quote, self._at):
                return self._quoted(quote)
        if self._peek() == "{":
            return dict(self._items("}", lambda: self._pair(depth)))
        if self._peek() == "[":
            return self._items("]", lambda: self.value(depth + 1))
        return self._word()

    def _pair(self, depth: int) -> tuple[str, Any]:
        self._skip()
        quoted = next((one for one in (*QUOTES, '"') if self._text.startswith(one, self._at)), "")
        if quoted:
            key = self._quoted(quoted)
            self._skip()
            end = self._at
        else:
            end = self._text.find(":", self._at)
            key = self._text[self._at : max(end, self._at)].strip()
        if end < 0 or self._text[end : end + 1] != ":":
            raise NoCall("a key without a value")
        self._at = end + 1
        return key, self.value(depth + 1)

    def _items(self, end: str, one: Callable[[], Any]) -> list[Any]:
        self._at += 1
        found: list[Any] = []
        while True:
            self._skip()
            if self._peek() == end:
                self._at += 1
                return found
            found.append(one())
            self._skip()
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != end:
                raise NoCall("a list without an end")

    def _quoted(self, quote: str) -> str:
        start = self._at + len(quote)
        end = self._text.find(quote, start)
        if end < 0:
            raise NoCall("a text without an end")
        self._at = end + len(quote)
        return self._text[start:end]

    def _word(self) -> Any:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in ",}]":
            self._at += 1
        word = self._text[start : self._at].strip()
        try:
            return json.loads(word)
        except ValueError:
            return word

    def _skip(self) -> None:
        while self._peek() and self._peek() in SPACE:
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]
