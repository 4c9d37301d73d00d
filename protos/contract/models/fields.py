"""Numbers, texts and flags of a model file's fields; what cannot be is an error that names file and field."""

from collections.abc import Mapping
from pathlib import Path

from protos.contract.models.errors import AGAIN, BadModelFile

MAX_COUNT = 2**50
"""No count of a model's file is larger; one that is was never a model's."""
MAX_LAYERS = 4096
"""llama.cpp takes 512 (``LLAMA_MAX_LAYERS``)."""


class Fields:
    """Fields by name, a GGUF file's or a JSON object's. ``inside``: the object's own name, for errors."""

    def __init__(self, path: Path, fields: Mapping[str, object], inside: str = "") -> None:
        self._path, self._fields, self._inside = path, fields, inside

    def raw(self, key: str) -> object:
        """As it stands; None: missing."""
        return self._fields.get(key)

    def text(self, key: str) -> str:
        """Empty: missing, or no text."""
        value = self._fields.get(key)
        return value if isinstance(value, str) else ""

    def flag(self, key: str, *, default: bool) -> bool:
        """The default where it is missing or no flag."""
        value = self._fields.get(key)
        return value if isinstance(value, bool) else default

    def part(self, key: str) -> "Fields":
        """An object inside; where it is missing, one without fields."""
        value = self._fields.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, "must be an object")
        return Fields(self._path, value or {}, f"{self._inside}{key}.")

    def parts(self, key: str) -> "list[Fields]":
        """A list of objects; empty where it is missing."""
        value = self._fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise self.wrong(key, "must be a list of objects")
        return [Fields(self._path, one, f"{self._inside}{key}[{number}].") for number, one in enumerate(value)]

    def names(self) -> tuple[str, ...]:
        """Of all fields."""
        return tuple(self._fields)

    def count(self, key: str, default: int = 0) -> int:
        """A whole number; of one for each layer the largest. A negative one stands for none."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, tuple | list) and value:
            return max(self._whole(key, one) for one in value)
        return self._whole(key, value)

    def layers(self, key: str) -> int:
        """How many layers."""
        count = self.count(key)
        if count > MAX_LAYERS:
            raise self.wrong(key, f"must be at most {MAX_LAYERS}")
        return count

    def each(self, key: str, layers: int, default: int = 0) -> list[int]:
        """A whole number for each layer; one for all may stand for them."""
        value = self._fields.get(key)
        if not isinstance(value, tuple | list):
            return [self.count(key, default)] * layers
        if len(value) != layers:
            raise self.wrong(key, f"must have an entry for each of {layers} layers")
        return [self._whole(key, one) for one in value]

    def wrong(self, key: str, rule: str, remedy: str = AGAIN) -> BadModelFile:
        """The error for a field that breaks a rule."""
        shown = str(self._fields.get(key))[:60]
        return BadModelFile(self._path, f"field {self._inside}{key} {rule}, not {shown!r}", remedy)

    def _whole(self, key: str, value: object) -> int:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(whole, int) or isinstance(value, bool) or not -1 <= whole < MAX_COUNT:
            raise self.wrong(key, "must be a whole number")
        return max(0, whole)
