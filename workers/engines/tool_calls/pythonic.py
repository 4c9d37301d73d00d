"""Calls written as Python: ``[weather(city="Rome", days=3), clock()]``, bare at the beginning or between marks; and one
a line, as Olmo 3 writes them. Only literals are read, nothing is run. Pure.
"""

import ast
import json
from collections.abc import Callable
from typing import Any

from workers.engines.tool_calls.json_call import SPACE
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.parsed import Parsed
from workers.engines.tool_calls.whole import NoCall, WholeCallParser

_JSON_NAMES = {"true": True, "false": False, "null": None}
MAX_CHARS = 64 * 1024
"""Of calls: what is longer is text."""


def read_calls(body: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments. Raises NoCall.

    >>> read_calls('[weather(city="Rome", days=3), clock()]')
    [('weather', {'city': 'Rome', 'days': 3}), ('clock', {})]
    """
    text = body.strip()
    if len(text) > MAX_CHARS:
        raise NoCall("too long")
    lines = text if text.startswith("[") else "[" + ",".join(text.splitlines()) + "]"
    try:
        found = ast.parse(lines, mode="eval").body
        if not isinstance(found, ast.List) or not found.elts:
            raise NoCall("no list of calls")
        return [_call(one) for one in found.elts]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise NoCall("no call") from None


def _call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args or any(one.arg is None for one in node.keywords):
        raise NoCall("no call with named arguments")
    arguments = {one.arg or "": _value(one.value) for one in node.keywords}
    json.dumps(arguments, allow_nan=False)  # a set or a number without end is no JSON: ValueError or TypeError
    return ast.unparse(node.func), arguments


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else ast.literal_eval(key) for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise NoCall("a key that is no text")
        return {key: _value(one) for key, one in zip(keys, node.values, strict=True)}
    value = ast.literal_eval(node)
    if not isinstance(value, (str, int, float, bool, tuple, type(None))):
        raise NoCall("no value of JSON")
    return value


class PythonicParser(WholeCallParser):
    """As ``WholeCallParser``, and an answer that begins with a list of calls."""

    def __init__(self, form: Format, known: frozenset[str], make_id: Callable[[], str]) -> None:
        super().__init__(form, read_calls, make_id)
        self._known = known
        self._fresh = True  # nothing but space so far
        self._end = _ListEnd()
        self._looked = 0  # characters of the list

    def _advance(self, out: Parsed) -> bool:
        if not self._fresh:
            return super()._advance(out)
        body = self._rest.lstrip(SPACE)
        if not body:
            return False
        if not begins_calls(body):
            self._fresh = False
            return True
        space = len(self._rest) - len(body)
        end = self._end.feed(body[self._looked :])
        if end is None:
            self._looked = len(body)
            self._fresh = self._looked <= MAX_CHARS
            return not self._fresh
        self._fresh = False
        whole = body[: self._looked + end]
        try:
            calls = read_calls(whole)
        except NoCall:
            return True
        if self._known and any(name not in self._known for name, _ in calls):
            return True
        for name, arguments in calls:
            self._tell(out, name, arguments)
        self._rest = self._rest[space + len(whole) :]
        return True


def begins_calls(text: str) -> bool:
    """Whether this may be the beginning of a list of calls.

    >>> [begins_calls(one) for one in ("[", "[ wea", "[weather(", "[1] says", "[a b", "Well")]
    [True, True, True, False, False, False]
    """
    if not text.startswith("["):
        return False
    name = text[1:].lstrip(SPACE)
    head, bracket, _ = name.partition("(")
    head = head if not bracket else head.rstrip(SPACE)
    return not name or (bool(head) and all(part.isidentifier() for part in head.rstrip(".").split(".")))


class _ListEnd:
    """Finds the bracket that closes a list, over quoted text."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def feed(self, text: str) -> int | None:
        """Characters up to the end, that included; None: it is not there yet."""
        for at, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quote:
                self._escaped = letter == "\\"
                self._quote = "" if letter == self._quote else self._quote
            elif letter in "\"'":
                self._quote = letter
            elif letter in "[({":
                self._depth += 1
            elif letter in "])}":
                self._depth -= 1
                if not self._depth:
                    return at + 1
        return None
