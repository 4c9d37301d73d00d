"""Other people's words made fit for a terminal, a table and a log: what a model, a worker or a router sends may hold
escape sequences that clear a screen, set a window's title or fill the clipboard. Pure.
"""

import re
from collections.abc import MutableMapping
from typing import Any

_CONTROL = "\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069"
"""Delete, the second set of control characters, and those that break lines or turn the direction of writing."""

UNPRINTABLE = re.compile(f"[\\x00-\\x1f{_CONTROL}]")
"""No business in a name or in one line."""

_UNPRINTABLE_TEXT = re.compile(f"[\\x00-\\x08\\x0b-\\x1f{_CONTROL}]")
"""The same, line ends and tabs apart. A carriage return would write over its own line."""

SHOWN = "\N{REPLACEMENT CHARACTER}"
"""What stands for each of them in a text: the reader sees that there was something."""


def one_line(text: str, limit: int = 4096) -> str:
    """As it may be logged and shown to a client: one line, printable, not too long."""
    return UNPRINTABLE.sub(" ", text[:limit]).strip() if text else text


def plain_text(text: str) -> str:
    r"""Text of any length with its lines and tabs, and nothing a terminal would obey.

    >>> plain_text("red: \x1b[31m\n")
    'red: \ufffd[31m\n'
    """
    return _UNPRINTABLE_TEXT.sub(SHOWN, text)


def printable_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor for logs that go to a terminal. Tracebacks keep their lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = plain_text(value)
    return event
