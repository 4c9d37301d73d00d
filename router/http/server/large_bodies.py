"""Large bodies are understood beside the event loop, one at a time, and bounded in what holds the interpreter.

A decoder works through a body without letting anybody else run, and takes 100 ns and more for every value: a body of a
text of 8 MB is done in milliseconds, one of four million numbers in a fifth of a second. So values are counted first,
piece by piece.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from router.errors import InvalidRequest

T = TypeVar("T")

SMALL_BYTES = 64 * 1024
"""Up to this size a body is understood where it arrived: below a millisecond."""

MAX_VALUES = 131_072
"""Numbers, texts and objects in one body: a prompt of so many token ids. Decoded in about 15 ms."""

MAX_NAMES = 32_768
"""Names in all objects of one body: each costs twice what a value does."""

_PIECE_BYTES = 64 * 1024


class LargeBodies:
    """One per router replica."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)  # more would only wait for the interpreter, and hold more memory

    async def understand(self, body: bytes, read: Callable[[], T]) -> T:
        """What ``read`` makes of the body. Raises InvalidRequest for one with too many values, and what ``read``
        raises. ``read`` must not touch what the event loop changes.
        """
        if len(body) <= SMALL_BYTES:
            return read()
        async with self._one:
            return await asyncio.to_thread(_read, body, read)


def _read(body: bytes, read: Callable[[], T]) -> T:
    refuse_many_values(body)
    return read()


def refuse_many_values(body: bytes) -> None:
    """Raises InvalidRequest. Commas and colons inside of texts do not count."""
    pieces = [(start, start + _PIECE_BYTES) for start in range(0, len(body), _PIECE_BYTES)]
    few_values = sum(body.count(b",", *piece) for piece in pieces) < MAX_VALUES
    if few_values and sum(body.count(b'":', *piece) for piece in pieces) <= MAX_NAMES:
        return
    commas, colons = beside_texts(body)
    if commas >= MAX_VALUES:
        raise InvalidRequest(
            f"The JSON body of your request has more than {MAX_VALUES} values; send a long prompt as text"
        )
    if colons > MAX_NAMES:
        raise InvalidRequest(f"The JSON body of your request has more than {MAX_NAMES} names in its objects")


def beside_texts(body: bytes) -> tuple[int, int]:
    r"""Commas and colons that separate values and names; counting ends at the bounds.

    >>> beside_texts(rb'{"a": "x, \", y: 1", "b": [1, 2]}')
    (2, 2)
    """
    commas = colons = place = 0
    inside = False
    while place < len(body) and commas < MAX_VALUES and colons <= MAX_NAMES:
        if inside:
            inside, place = False, _end_of_text(body, place)
            continue
        quote = body.find(b'"', place, place + _PIECE_BYTES)
        stop = quote if quote >= 0 else min(place + _PIECE_BYTES, len(body))
        commas += body.count(b",", place, stop)
        colons += body.count(b":", place, stop)
        inside, place = quote >= 0, stop + (quote >= 0)
    return commas, colons


def _end_of_text(body: bytes, place: int) -> int:
    """Behind the quotation mark that ends the text which goes on at ``place``."""
    while True:
        quote = body.find(b'"', place)
        if quote < 0:
            return len(body)
        slashes = 0
        while body[quote - 1 - slashes] == 0x5C and quote - 1 - slashes >= place:
            slashes += 1
        if slashes % 2 == 0:
            return quote + 1
        place = quote + 1
