"""Any value of the contract that an honest peer may say, drawn by what its message can hold."""

import math
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.content import ContentPart, Image
from protos.contract.validation import MAX_VALUES

WORDS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12)
"""Printable, without spaces at the ends: what is shown is mended, see ``validation.one_line``."""

UNSIGNED = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)

# The wire does not tell 0 from nothing by these; nothing means 1, or off.
AT_LEAST_ONE = ("slots", "block_tokens", "max_tokens")
POSITIVE = ("top_p", "repetition_penalty")


def values_of(value: type, message: type | Descriptor, /, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a dataclass or struct, each field within what the message's field of that name holds."""
    on_wire = (message if isinstance(message, Descriptor) else message.DESCRIPTOR).fields_by_name  # type: ignore[attr-defined]
    hints = get_type_hints(value)
    drawn = {name: _field(hint, on_wire[name]) for name, hint in hints.items() if name in on_wire}
    return st.builds(value, **{**drawn, **given})


def _field(hint: Any, wire: FieldDescriptor) -> st.SearchStrategy[Any]:
    if hint == ContentPart:
        return WORDS | values_of(Image, pb.Image)
    if hint == str | tuple[int, ...]:
        return WORDS | st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(tuple)
    if isinstance(hint, types.UnionType):
        some = next(one for one in get_args(hint) if one is not type(None))
        return st.none() | _field(some, wire)
    if get_origin(hint) is tuple:
        return st.lists(_field(get_args(hint)[0], wire), max_size=3).map(tuple)
    if get_origin(hint) is Mapping:
        keys, values = wire.message_type.fields_by_name["key"], wire.message_type.fields_by_name["value"]
        return st.dictionaries(_scalar(keys), _scalar(values), max_size=3)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if wire.message_type is not None:
        return values_of(hint, wire.message_type)
    return _scalar(wire)


def _scalar(wire: FieldDescriptor) -> st.SearchStrategy[Any]:
    least, most = int(wire.name in AT_LEAST_ONE), MAX_VALUES.get(wire.name, math.inf)
    match wire.type:
        case FieldDescriptor.TYPE_STRING:
            return WORDS
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=8)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_UINT32:
            return st.integers(least, int(min(most, 2**32 - 1)))
        case FieldDescriptor.TYPE_INT32:
            return st.integers(-(2**31), 2**31 - 1)
        case FieldDescriptor.TYPE_FLOAT:
            above = wire.name in POSITIVE
            return st.floats(0.0 if above else -(2.0**100), 2.0**100, exclude_min=above, width=32)
        case FieldDescriptor.TYPE_DOUBLE:
            return st.just(0.0) | st.floats(0.01, 1.0)  # believable of a speed too
        case kind if kind in UNSIGNED:
            return st.integers(least, int(min(most, 2**64 - 1)))
        case _:
            raise AssertionError(f"{wire.name} has a type that no field had so far")


def over_the_wire(message: Any) -> Any:
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())
