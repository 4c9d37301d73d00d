"""Values just within and just beyond every bound that a type declares, however deep it stands in it.

Made from the declarations themselves (``msgspec.inspect``): around the value in question stands the least that the type
asks for.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect as kinds

LONGEST = 1_000_000
"""A text or list with a larger bound meets the body's own bound first."""

MOST_ITEMS = 8192
"""Of a list that is tried at its bound."""


@dataclass(frozen=True, slots=True)
class Case:
    """``path``: as errors write it. ``within`` and ``beyond`` are whole values of the type."""

    path: str
    within: Any
    beyond: Any

    @property
    def field(self) -> str:
        """The innermost name."""
        return next(part for part in reversed(re.split(r"\.|\[\]", self.path)) if part)

    def __str__(self) -> str:
        return self.path


def cases_of(kind: type) -> Iterator[Case]:
    """Each bound once, wherever it is met first."""
    yield from _cases(kinds.type_info(kind), frozenset())


def least_of(kind: Any) -> Any:
    """The least value of a type that is valid."""
    match kind:
        case kinds.Metadata(type=inner):
            return least_of(inner)
        case kinds.UnionType(types=types):
            plain = [one for one in types if not isinstance(one, kinds.NoneType)]
            return None if len(plain) < len(types) else least_of(plain[0])
        case kinds.StructType(cls=cls, fields=fields):
            given = {one.encode_name: least_of(one.type) for one in fields if one.required}
            return {**_tag(cls), **given}
        case kinds.StrType(min_length=least, pattern=pattern):
            return ("1" if pattern and re.search(pattern, "1") else "x") * (least or (1 if pattern else 0))
        case kinds.IntType() | kinds.FloatType():
            return _least_number(kind)
        case kinds.ListType(item_type=item, min_length=least):
            return [least_of(item)] * (least or 0)
        case kinds.LiteralType(values=values):
            return values[0]
        case kinds.BoolType():
            return False
        case kinds.DictType():
            return {}
        case kinds.AnyType() | kinds.NoneType():
            return None
    raise AssertionError(f"no least value is known of {kind}")


def _least_number(kind: Any) -> float:
    if kind.ge is not None:
        return float(kind.ge) if isinstance(kind, kinds.FloatType) else int(kind.ge)
    return 1


def _tag(cls: type[msgspec.Struct]) -> dict[str, Any]:
    config = cls.__struct_config__
    return {config.tag_field: config.tag} if config.tag_field else {}


def _cases(kind: Any, above: frozenset[type]) -> Iterator[Case]:
    match kind:
        case kinds.Metadata(type=inner):
            yield from _cases(inner, above)
        case kinds.UnionType(types=types):
            for one in types:
                yield from _cases(one, above)
        case kinds.StructType():
            yield from _cases_of_struct(kind, above)
        case kinds.ListType():
            yield from _cases_of_list(kind, above)
        case kinds.DictType(value_type=value, key_type=key):
            for case in _cases(value, above):
                yield Case(case.path, {least_of(key): case.within}, {least_of(key): case.beyond})
        case kinds.StrType():
            yield from _cases_of_text(kind)
        case kinds.IntType() | kinds.FloatType():
            yield from _cases_of_number(kind)


def _cases_of_struct(kind: kinds.StructType, above: frozenset[type]) -> Iterator[Case]:
    """A type that holds itself is entered once."""
    if kind.cls in above:
        return
    around = least_of(kind)
    for field in kind.fields:
        name = field.encode_name
        for case in _cases(field.type, above | {kind.cls}):
            path = f"{name}.{case.path}" if case.path and not case.path.startswith("[") else name + case.path
            yield Case(path, {**around, name: case.within}, {**around, name: case.beyond})


def _cases_of_list(kind: kinds.ListType, above: frozenset[type]) -> Iterator[Case]:
    one = least_of(kind.item_type)
    if kind.max_length is not None and kind.max_length <= MOST_ITEMS:
        yield Case("", [one] * kind.max_length, [one] * (kind.max_length + 1))
    if kind.min_length:
        yield Case("", [one] * kind.min_length, [one] * (kind.min_length - 1))
    more = [one] * ((kind.min_length or 1) - 1)
    for inner in _cases(kind.item_type, above):
        path = f"[].{inner.path}" if inner.path and not inner.path.startswith("[") else f"[]{inner.path}"
        yield Case(path, [inner.within, *more], [inner.beyond, *more])


def _cases_of_text(kind: kinds.StrType) -> Iterator[Case]:
    letter = "1" if kind.pattern and re.search(kind.pattern, "1") else "x"
    if kind.max_length is not None and kind.max_length <= LONGEST:
        yield Case("", letter * kind.max_length, letter * (kind.max_length + 1))
    if kind.min_length:
        yield Case("", letter * kind.min_length, letter * (kind.min_length - 1))
    if kind.pattern is not None:
        yield Case("", letter * (kind.min_length or 1), "\n")


def _cases_of_number(kind: kinds.IntType | kinds.FloatType) -> Iterator[Case]:
    whole = isinstance(kind, kinds.IntType)
    for at, inclusive, away in ((kind.ge, True, -1), (kind.le, True, 1), (kind.gt, False, -1), (kind.lt, False, 1)):
        if at is None or (whole and not -(2**63) < at < 2**63 - 1):
            continue
        past = at + away if whole else math.nextafter(at, away * math.inf)
        before = at - away if whole else math.nextafter(at, -away * math.inf)
        yield Case("", at, past) if inclusive else Case("", before, at)
