"""Values and messages whose fields have the same names, both ways, without a line for each field.

A ``Record`` reads the message's descriptor once: scalars go as they are, repeated fields are tuples, maps are
mappings, ``optional`` scalars are None when unset. What else a field needs stands in the record's tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

V = TypeVar("V")
M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=StrEnum)


class Coder(Protocol):
    """How a field is coded that is more than a scalar: a record, a closed set, or one of several things."""

    def encode(self, value: Any, /) -> Any:
        """As it stands in the message."""
        ...

    def decode(self, message: Any, /) -> Any:
        """As a value."""
        ...


class Names(Generic[E]):
    """A closed set on the wire: ``LOADING`` of ``InstanceState`` is ``MODEL_STATE_LOADING``, by the enum's prefix.

    ``unknown`` stands for numbers of a newer protocol, and for none at all.
    """

    def __init__(self, values: type[E], wire: EnumDescriptor, *, unknown: E | None) -> None:
        unspecified = wire.values_by_number[0].name
        prefix = unspecified.removesuffix("UNSPECIFIED")
        self.number: dict[E, int] = {one: wire.values_by_name[prefix + one.name].number for one in values}
        self._value = {number: one for one, number in self.number.items()}
        self._unknown = unknown

    def encode(self, value: E) -> int:
        """Its number."""
        return self.number[value]

    def decode(self, number: int) -> E | None:
        """What the number stands for."""
        return self._value.get(number, self._unknown)


class Record(Generic[V, M]):
    """One kind of value and the message that carries it.

    ``parts``: how fields that are messages or closed sets are coded. ``clean``: mends what was read, by field, where
    the wire may say what no value should. ``apart``: fields that whoever uses the record codes himself.
    """

    def __init__(
        self,
        value: type[V],
        message: type[M],
        parts: Mapping[str, Coder] | None = None,
        *,
        clean: Callable[[dict[str, Any]], None] | None = None,
        apart: tuple[str, ...] = (),
    ) -> None:
        self._value = value
        self._message = message
        on_wire: Mapping[str, Any] = message.DESCRIPTOR.fields_by_name
        self._plain: tuple[str, ...] = ()
        self._writers: list[tuple[str, Callable[[Any], Any]]] = []
        self._containers: list[tuple[str, Callable[[Any], Any]]] = []
        self._readers: list[tuple[str, Callable[[Any], Any]]] = []
        self._optional: tuple[str, ...] = ()
        for one in fields(value):  # type: ignore[arg-type]
            if one.name in apart:
                continue
            described = on_wire[one.name]
            part = (parts or {}).get(one.name)
            if part is None and described.has_presence:
                self._optional = (*self._optional, one.name)
            elif part is None and not described.is_repeated:
                self._plain = (*self._plain, one.name)
            else:
                writers = self._containers if described.is_repeated else self._writers  # maps are repeated, too
                writers.append((one.name, _writer(described, part)))
                self._readers.append((one.name, _reader(described, part, one)))
        self._clean = clean

    def encode(self, value: V) -> M:
        """As a message; fields that are None stay unset."""
        content = {name: getattr(value, name) for name in self._plain}
        for name, write in self._writers:
            part = getattr(value, name)
            if part is not None:
                content[name] = write(part)
        for name, write in self._containers:
            part = getattr(value, name)
            if part:  # an empty one looks like none on the wire, and is not free to set
                content[name] = write(part)
        for name in self._optional:
            content[name] = getattr(value, name)  # None leaves it unset
        return self._message(**content)

    def decode(self, message: M, **given: Any) -> V:
        """As a value; ``given``: fields whose value is known already."""
        content = {name: getattr(message, name) for name in self._plain}
        for name, read in self._readers:
            if name not in given:
                content[name] = read(message)
        for name in self._optional:
            content[name] = getattr(message, name) if message.HasField(name) else None
        if self._clean is not None:
            self._clean(content)
        if given:
            content.update(given)
        return self._value(**content)


def _writer(described: FieldDescriptor, part: Coder | None) -> Callable[[Any], Any]:
    if part is None:
        return dict if _is_map(described) else tuple
    if described.is_repeated:
        return lambda values: [part.encode(one) for one in values]
    return part.encode


def _reader(described: FieldDescriptor, part: Coder | None, field: Field[Any]) -> Callable[[Any], Any]:
    name = described.name
    if part is None:
        make: Callable[[Any], Any] = dict if _is_map(described) else tuple
        return lambda message: make(getattr(message, name))
    if described.is_repeated:
        return lambda message: tuple([part.decode(one) for one in getattr(message, name)])
    if described.has_presence and field.default is None:
        return lambda message: part.decode(getattr(message, name)) if message.HasField(name) else None
    return lambda message: part.decode(getattr(message, name))


def _is_map(described: FieldDescriptor) -> bool:
    entry = described.message_type
    return entry is not None and bool(entry.GetOptions().map_entry)
