"""Gemma's calls: ``call:name{key:<escape>text<escape>,count:3}`` between marks, told as JSON once complete."""

import json
from collections.abc import Callable
from typing import Any

from workers.engines.tool_calls.json_call import SPACE
from workers.engines.tool_calls.whole import NoCall

QUOTES = ("<escape>", '<|"|>')
"""Around a text: FunctionGemma's, Gemma 4's."""

CALL = "call:"

MAX_DEPTH = 64


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
