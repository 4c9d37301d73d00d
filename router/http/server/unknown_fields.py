"""Fields of a request that no type knows: taken out of it, and named.

Clients send back what other servers gave them (``reasoning_content``, ``id``, ``cache_control``) and ask for what only
one engine has. Refusing that makes a conversation work on its first turn and fail on its second.
"""

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

MAX_NAMED = 32
"""Names that are told; a body can hold thousands."""


class Lenient:
    """Removes what ``kind`` does not know from a decoded JSON value."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def strip(self, value: Any) -> tuple[Any, tuple[str, ...]]:
        """The value without unknown fields (changed in place), and the names of those, each once.

        Places in a list have no number in a name: what the client's first message has, its hundredth has too.
        """
        named: dict[str, None] = {}
        for name in _strip(self._kind, value, ""):
            if len(named) < MAX_NAMED:
                named.setdefault(name)
        return value, tuple(named)


def _strip(kind: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        struct = _struct_of(kind, value)
        if struct is None:
            inner = _values_of(kind)
            if inner is not None:
                for one in value.values():
                    yield from _strip(inner, one, f"{path}.*" if path else "*")
            return
        fields = _fields(struct)
        for name in [name for name in value if name not in fields]:
            del value[name]
            yield f"{path}.{name}" if path else name
        for name, one in value.items():
            if isinstance(one, (dict, list)):
                yield from _strip(fields[name], one, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        inner = _items_of(kind)
        if inner is not None:
            for one in value:
                if isinstance(one, (dict, list)):
                    yield from _strip(inner, one, f"{path}[]")


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """By the name they have in JSON. A tag is one of them: it says which type it is."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    return {**fields, tag: str} if tag else fields


@cache
def _choices(kind: Any) -> tuple[Any, ...]:
    """What ``kind`` may be, without annotations and unions around it."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _choices(get_args(kind)[0])
    if origin in (Union, UnionType):
        return tuple(choice for one in get_args(kind) for choice in _choices(one))
    return (kind,)


def _struct_of(kind: Any, value: dict[str, Any]) -> type[msgspec.Struct] | None:
    """The struct that an object is; by its tag where there are several. None: any object will do."""
    structs = [one for one in _choices(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    for one in structs:
        config = one.__struct_config__
        if len(structs) == 1 or (config.tag_field is not None and value.get(config.tag_field) == config.tag):
            return one
    return None


def _items_of(kind: Any) -> Any | None:
    return next((get_args(one)[0] for one in _choices(kind) if get_origin(one) is list), None)


def _values_of(kind: Any) -> Any | None:
    return next((get_args(one)[1] for one in _choices(kind) if get_origin(one) is dict), None)
