"""What an event becomes in memory is reckoned from its bytes, before any of it is built: two of them may become 200.

Eight megabytes of empty deltas would else be 800 MB and half a second of the event loop, whatever was done with them
then.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.validation import OutOfBounds

FREE_BYTES = 4 * 1024
"""An event up to this size is read as it is: at most 2,048 empty messages."""

MAX_BUILT_BYTES = 16 * 2**20
"""Of messages, beside the texts and numbers in them: 200,000 log-probabilities, or 80,000 deltas."""

MAX_FIELDS = 2**20
"""To look at so many takes a third of a second, beside the event loop."""

ENROLMENT_BYTES = 256 * 1024
MAX_ENROLMENT_BUILT_BYTES = 2 * 2**20
"""Of what 256 models' files may be told with."""

MESSAGE_BYTES = 40
FIELD_BYTES = 9
"""What an empty message takes, and more for each field that its kind has, present or not; by measurement."""

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Kinds of fields on the wire; of those of a fixed size, how many bytes."""


class _Plan(NamedTuple):
    """Of a kind of message: what an empty one takes, and the plans of those fields that are messages, by their tags."""

    built_bytes: int
    inner: Mapping[int, "_Plan"]


class Reckoned(NamedTuple):
    """Fields of the event and of all messages in it, and what those messages take before anything is in them."""

    fields: int
    built_bytes: int


def read_event(raw: bytes) -> pb.WorkerEvent:
    """The event. Raises OutOfBounds, and DecodeError for what is none."""
    if len(raw) > FREE_BYTES:
        reckoned = reckon(raw)
        if reckoned.built_bytes > MAX_BUILT_BYTES:
            raise OutOfBounds(f"an event of {len(raw)} bytes would take more than {MAX_BUILT_BYTES} in memory")
        if reckoned.fields > MAX_FIELDS:
            raise OutOfBounds(f"an event of {len(raw)} bytes has more than {MAX_FIELDS} fields")
    return pb.WorkerEvent.FromString(raw)


def read_enrolment(raw: bytes) -> pb.EnrolRequest:
    """What a machine that nobody knows yet says first. Raises OutOfBounds, and DecodeError for what is none."""
    if len(raw) > FREE_BYTES:
        built = reckon(raw, pb.EnrolRequest.DESCRIPTOR.full_name).built_bytes
        if len(raw) > ENROLMENT_BYTES or built > MAX_ENROLMENT_BUILT_BYTES:
            raise OutOfBounds(
                f"an enrolment of {len(raw)} bytes, {built} in memory, where {ENROLMENT_BYTES} and "
                f"{MAX_ENROLMENT_BUILT_BYTES} are taken at most"
            )
    return pb.EnrolRequest.FromString(raw)


def reckon(raw: bytes, name: str = pb.WorkerEvent.DESCRIPTOR.full_name) -> Reckoned:
    """Without building anything; ends soon after a bound is passed. Raises OutOfBounds for bytes that are none."""
    whole = _plan(name)
    fields, built = 0, whole.built_bytes
    waiting = [(0, len(raw), whole.inner)]
    try:
        while waiting and built <= MAX_BUILT_BYTES and fields <= MAX_FIELDS:
            at, end, inner = waiting.pop()
            while at < end and built <= MAX_BUILT_BYTES and fields <= MAX_FIELDS:
                fields += 1
                tag = raw[at]
                at += 1
                if tag > 127:
                    tag, at = _varint(raw, at - 1)
                kind = tag & 7
                if kind == _BYTES:
                    size = raw[at]
                    at += 1
                    if size > 127:
                        size, at = _varint(raw, at - 1)
                    message = inner.get(tag)
                    if message is not None:
                        built += message.built_bytes
                        if size:
                            waiting.append((at, at + size, message.inner))
                    at += size
                else:
                    at = _behind_number(raw, at, kind)
            if at > end:
                raise OutOfBounds("an event breaks off in the middle of a field")
    except IndexError:
        raise OutOfBounds("an event breaks off in the middle of a field") from None
    return Reckoned(fields, built)


def _behind_number(raw: bytes, at: int, kind: int) -> int:
    """Where the next field begins. Raises IndexError, OutOfBounds."""
    if kind == _VARINT:
        while raw[at] > 127:
            at += 1
        return at + 1
    if kind not in _FIXED:
        raise OutOfBounds("an event has a field of no kind that is known here")
    return at + _FIXED[kind]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where the next thing begins. Raises IndexError, OutOfBounds."""
    value = shift = 0
    while shift < 64:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise OutOfBounds("an event has a number of more than 64 bits")


@cache
def _plan(name: str) -> _Plan:
    """By the name of the kind."""
    return _plan_of(pb.DESCRIPTOR.pool.FindMessageTypeByName(name), {})


def _plan_of(kind: Any, known: dict[str, _Plan]) -> _Plan:
    """A kind that holds itself has its own plan within."""
    if kind.full_name not in known:
        inner: dict[int, _Plan] = {}
        known[kind.full_name] = _Plan(MESSAGE_BYTES + FIELD_BYTES * len(kind.fields), inner)
        for field in kind.fields:
            if field.message_type is not None:
                inner[field.number << 3 | _BYTES] = _plan_of(field.message_type, known)
    return known[kind.full_name]
