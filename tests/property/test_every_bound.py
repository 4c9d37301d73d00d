"""Every declared bound: a value just within it is taken, one just beyond it is refused by the field's name.

The cases are made from the declarations themselves, so a new field with a bound is tried, and a number that a worker
may send without any bound fails until it has one.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract import validation
from protos.contract.validation import MAX_VALUES, OutOfBounds
from router.config import RouterConfig, load_config
from router.errors import ConfigError, InvalidRequest
from router.http.dialects.anthropic.schema import MessagesRequest
from router.http.dialects.openai.schema import ChatRequest, CompletionRequest
from router.http.server.decoding import decode

LONGEST_TRIED = 1_000_000
"""A text or list with a larger bound meets the body's own bound first (``test_body_bounds``)."""


def _bounds(kind: Any) -> Iterator[tuple[Any, Any]]:
    """A value just within and one just beyond, for each bound of a type."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from _bounds(one)
        return
    if isinstance(kind, msgspec.inspect.IntType):
        yield from ((at, at - 1) for at in (kind.ge,) if at is not None and at > -(2**63))
        yield from ((at, at + 1) for at in (kind.le,) if at is not None and at < 2**63 - 1)
    elif isinstance(kind, msgspec.inspect.FloatType):
        yield from ((at, math.nextafter(at, -math.inf)) for at in (kind.ge,) if at is not None)
        yield from ((at, math.nextafter(at, math.inf)) for at in (kind.le,) if at is not None)
        yield from ((math.nextafter(at, math.inf), at) for at in (kind.gt,) if at is not None)
    elif isinstance(kind, msgspec.inspect.StrType) and kind.max_length is not None:
        if kind.max_length <= LONGEST_TRIED and kind.pattern is None:
            yield "x" * kind.max_length, "x" * (kind.max_length + 1)
    elif isinstance(kind, msgspec.inspect.ListType) and kind.max_length is not None:
        for plain, one in ((msgspec.inspect.StrType, "x"), (msgspec.inspect.IntType, 1)):
            if isinstance(kind.item_type, plain):
                yield [one] * kind.max_length, [one] * (kind.max_length + 1)
    elif isinstance(kind, msgspec.inspect.StrType) and kind.min_length:
        yield "x" * kind.min_length, "x" * (kind.min_length - 1)


def _fields(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    kind = msgspec.inspect.type_info(struct)
    assert isinstance(kind, msgspec.inspect.StructType)
    for field in kind.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            yield from _fields(field.type.cls, f"{prefix}{field.encode_name}.")
        else:
            for within, beyond in _bounds(field.type):
                yield f"{prefix}{field.encode_name}", within, beyond


def _nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: _nested(rest, value) if rest else value}


CONFIG = list(_fields(RouterConfig))


def test_the_configuration_has_bounds_to_try() -> None:
    """Nearly every number of it."""
    assert len({name for name, _, _ in CONFIG}) > 40


@pytest.mark.parametrize(("name", "within", "beyond"), CONFIG, ids=lambda one: str(one)[:40])
def test_a_configured_value_beyond_its_bound_is_refused_by_its_name(name: str, within: Any, beyond: Any) -> None:
    load_config(None, _nested(name, within))
    with pytest.raises(ConfigError, match=name):
        load_config(None, _nested(name, beyond))


ASKED: dict[type[msgspec.Struct], dict[str, Any]] = {
    ChatRequest: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    CompletionRequest: {"model": "m", "prompt": "x"},
    MessagesRequest: {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
}
REQUESTS = [(kind, *case) for kind in ASKED for case in _fields(kind)]


@pytest.mark.parametrize(("kind", "name", "within", "beyond"), REQUESTS, ids=lambda one: str(one)[:40])
def test_a_field_of_a_request_beyond_its_bound_is_refused_by_its_name(
    kind: type[msgspec.Struct], name: str, within: Any, beyond: Any
) -> None:
    decoder = msgspec.json.Decoder(kind)
    decode(decoder, msgspec.json.encode({**ASKED[kind], name: within}))
    with pytest.raises(InvalidRequest) as refused:
        decode(decoder, msgspec.json.encode({**ASKED[kind], name: beyond}))
    assert name in f"{refused.value.message} {refused.value.param}"


NUMBERS = {
    FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64,
}  # fmt: skip
TOLD = (pb.Hello, pb.ModelInstance, pb.DraftReport, pb.FilesHeld, pb.FetchProgress, pb.Load)
"""What a worker says of itself, and the router keeps."""


def _numbers(message: Descriptor, seen: set[str]) -> Iterator[tuple[str, FieldDescriptor]]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from _numbers(field.message_type, seen)
        elif field.cpp_type in NUMBERS:
            yield message.name, field


def _named(owner: str, field: FieldDescriptor) -> float:
    return MAX_VALUES.get(f"{owner.lower()}.{field.name}", MAX_VALUES.get(field.name, math.inf))


SAID = [one for kind in TOLD for one in _numbers(kind.DESCRIPTOR, set())]


def test_every_number_a_worker_says_of_itself_has_a_bound() -> None:
    """Or is of a type that holds nothing that could harm: 32 bits."""
    wide = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
    wide |= {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
    without = {
        f"{owner}.{field.name}" for owner, field in SAID if field.cpp_type in wide and _named(owner, field) == math.inf
    }
    assert without <= COUNTERS, sorted(without - COUNTERS)


COUNTERS = {"Load.step_sequence", "Load.last_command", "Load.prefill_progress"}
"""Only ever compared with what the same worker said before."""


@pytest.mark.parametrize("field", sorted(MAX_VALUES))
def test_a_worker_that_says_more_than_is_believable_is_refused_by_the_fields_name(field: str) -> None:
    """Wherever the field stands: each bound belongs to a field that exists."""
    owner, _, name = field.rpartition(".")
    there = [f for one, f in SAID if f.name == name and (not owner or one.lower() == owner)]
    assert there, f"no message has a field '{field}'"
    most = MAX_VALUES[field]
    where = f"model.{owner + '.' if owner else ''}{name}"
    validation._check_value(most, where)
    with pytest.raises(OutOfBounds, match=name):
        validation._check_value(math.nextafter(most, math.inf), where)
    with pytest.raises(OutOfBounds, match=name):
        validation._check_value(-1.0, where)
