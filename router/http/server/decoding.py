"""JSON bodies into typed requests; whatever is wrong comes out as one InvalidRequest that names the parameter."""

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from router.errors import InvalidRequest, UnknownParameter, UnsupportedParameter
from router.http.server.unknown_fields import Lenient

T = TypeVar("T")

_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_WRONG = re.compile(r"(.*) - at `(?:key` in `|key in )?\$\.?(.*)`$", re.DOTALL)
_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)", re.DOTALL)
"""Escaped backslashes and whole pairs, passed over; what is left in the group is half of a pair."""

_PIECE_BYTES = 64 * 1024
_LONGEST_MATCH = 12  # bytes: a whole pair

MAX_NAME_CHARS = 100
"""Characters of a client's own words that an error repeats."""


class BodyDecoder(Generic[T]):
    """Decodes bodies of one type. Unless ``strict``, fields it does not know are left out, and named.

    What has none, as nearly every request, is decoded once, straight into the type. ``undoable``: fields that no type
    knows and that would change the answer, with the reason why they do not: a 400 unless they are empty or false.
    """

    def __init__(self, kind: type[T], *, strict: bool, undoable: Mapping[str, str] | None = None) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
        self._kind = kind
        self._lenient = None if strict else Lenient(kind)
        self._undoable = undoable or {}

    def decode(self, body: bytes) -> tuple[T, tuple[str, ...]]:
        """The typed request and the names of ignored fields. Raises InvalidRequest."""
        try:
            return decode(self._decoder, body), ()
        except UnknownParameter:
            if self._lenient is None:
                raise
        value = decode(self._any, body)
        undone = next((name for name in self._undoable if value.get(name)), None)
        if undone is not None:
            reason = self._undoable[undone]
            raise UnsupportedParameter(f"Unsupported parameter: '{undone}': {reason}", param=undone)
        value, ignored = self._lenient.strip(value)
        try:
            return msgspec.convert(value, self._kind), ignored
        except msgspec.ValidationError as error:
            raise _explain(str(error)) from None


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The typed request. Raises InvalidRequest or UnknownParameter."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"We could not parse the JSON body of your request: {_unreadable(body, error)}") from None
    except RecursionError:
        raise InvalidRequest("The JSON body of your request is nested too deeply") from None


def _unreadable(body: bytes, error: Exception) -> str:
    """What is wrong with it; the decoder's own words where they tell."""
    try:
        body.decode()
    except UnicodeDecodeError as found:
        return f"it is not UTF-8: byte 0x{body[found.start]:02x} at position {found.start}"
    lone = _half_pair(body)
    if lone is not None:
        return f"{lone.decode('ascii', 'replace')} is half of a surrogate pair, which is no character"
    return _clip(str(error))


def _half_pair(body: bytes) -> bytes | None:
    """The first half of a surrogate pair that stands alone. Piece by piece: one search through a large body would let
    nobody else run for half a second.
    """
    place = 0
    while place < len(body):
        end = place + _PIECE_BYTES
        for found in _SURROGATES.finditer(body, place, end + _LONGEST_MATCH):
            if found.start() >= end:
                break
            if found[1]:
                return found[1]
            end = max(end, found.end())
        place = end
    return None


def _explain(problem: str) -> InvalidRequest:
    if found := _UNKNOWN.match(problem):
        name = _join(found.group(2), found.group(1))
        return UnknownParameter(f"Unrecognized request argument supplied: {name}", param=name)
    if found := _MISSING.match(problem):
        name = _join(found.group(2), found.group(1))
        return InvalidRequest(f"Missing required parameter: '{name}'", param=name)
    if found := _WRONG.match(problem):
        name = _clip(found.group(2).replace("[...]", "[]"))
        what = _clip(found.group(1))
        return InvalidRequest(f"Invalid value for '{name}': {what[:1].lower()}{what[1:]}", param=name or None)
    return InvalidRequest(f"Invalid request body: {_clip(problem)}")


def _join(path: str | None, name: str) -> str:
    inner = (path or "").replace("[...]", "[]")
    return _clip(f"{inner}.{name}" if inner else name)


def _clip(words: str) -> str:
    return words if len(words) <= MAX_NAME_CHARS else words[:MAX_NAME_CHARS] + "…"
