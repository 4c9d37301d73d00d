"""The header of a GGUF file and nothing else: fields, tensor names and sizes, without the weights or their reader.

Format: ggml's ``docs/gguf.md``. Nothing in a header is trusted: counts and lengths are compared with the file's size
before anything is read, and a file that ends early is one clear line.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from router.errors import ConfigError

MAGIC = b"GGUF"
MAX_TEXT_BYTES = 1 << 20
MAX_NUMBERS_KEPT = 1024
MAX_DEPTH = 4

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9

BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36),
}  # fmt: skip
"""Weights and bytes of a block of each ggml type (ggml ``ggml.c``, type traits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """``fields``: scalars, texts, short arrays of numbers; a longer array or one of texts is its length."""

    fields: dict[str, Any]
    tensors: frozenset[str]
    parameters: int
    weights_bytes: int


def read_header(path: Path) -> GgufHeader:
    """Raises ConfigError with one line: missing, no GGUF, truncated, corrupt."""
    try:
        with path.open("rb") as file:
            return _Reader(path, file).header()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = path.stat().st_size

    def header(self) -> GgufHeader:
        magic = self._file.read(4)
        if magic != MAGIC:
            raise ConfigError(f"{self._path}: not a GGUF file (it starts with {magic!r})")
        version = self._number("<I", "version")
        if version not in (2, 3):
            hint = "big-endian files are not read here" if version > 0xFFFF else "2 and 3 are read here"
            raise ConfigError(f"{self._path}: field version is {version}; {hint}")
        tensors = self._count("tensor count", at_least_bytes=24)
        pairs = self._count("field count", at_least_bytes=13)
        fields: dict[str, Any] = {}
        for number in range(pairs):
            key = self._text(f"name of field {number + 1} of {pairs}")
            fields[key] = self._value(key, self._number("<I", key), 0)
        return self._tensors(fields, tensors)

    def _tensors(self, fields: dict[str, Any], count: int) -> GgufHeader:
        names, parameters, weights, end = set(), 0, 0, 0
        for number in range(count):
            name = self._text(f"name of tensor {number + 1} of {count}")
            elements = 1
            dimensions = self._number("<I", name)
            if dimensions > 8:
                raise self._corrupt(name, f"has {dimensions} dimensions")
            for _ in range(dimensions):
                elements *= self._number("<Q", name)
            kind = self._number("<I", name)
            offset = self._number("<Q", name)
            if kind not in BLOCKS:
                raise self._corrupt(name, f"is of an unknown type ({kind})")
            in_block, block_bytes = BLOCKS[kind]
            held = -(-elements // in_block) * block_bytes
            if offset + held > self._size:
                raise ConfigError(
                    f"{self._path}: truncated or corrupt: tensor {name} ends at byte {offset + held} of the weights, "
                    f"the whole file has {self._size}; download it again"
                )
            names.add(name)
            parameters, weights, end = parameters + elements, weights + held, max(end, offset + held)
        alignment = fields.get("general.alignment")
        align = alignment if isinstance(alignment, int) and 0 < alignment <= 1 << 20 else 32
        start = -(-self._file.tell() // align) * align
        if start + end > self._size:
            raise ConfigError(
                f"{self._path}: truncated: its tensors end at byte {start + end}, the file at {self._size}; "
                "download it again"
            )
        return GgufHeader(fields=fields, tensors=frozenset(names), parameters=parameters, weights_bytes=weights)

    def _value(self, key: str, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind], key)
        if kind == _TEXT:
            return self._text(key)
        if kind != _ARRAY or depth >= MAX_DEPTH:
            raise self._corrupt(key, f"is of an unknown kind ({kind})")
        of = self._number("<I", key)
        count = self._number("<Q", key)
        if of in _SCALARS:
            return self._numbers(key, _SCALARS[of], count)
        if count > self._size:
            raise self._corrupt(key, f"claims {count} entries")
        for _ in range(count):
            self._text(key) if of == _TEXT else self._value(key, of, depth + 1)
        return count

    def _numbers(self, key: str, layout: str, count: int) -> Any:
        width = struct.calcsize(layout)
        if count <= MAX_NUMBERS_KEPT:
            return [self._number(layout, key) for _ in range(count)]
        self._skip(count * width, key)
        return count

    def _text(self, key: str) -> str:
        length = self._number("<Q", key)
        if length > MAX_TEXT_BYTES:
            self._skip(length, key)
            return ""
        return self._take(length, key).decode("utf-8", "replace")

    def _number(self, layout: str, key: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout), key))[0]

    def _count(self, what: str, *, at_least_bytes: int) -> int:
        count = int(self._number("<Q", what))
        if count * at_least_bytes > self._size:
            raise self._corrupt(what, f"is {count}, more than a file of {self._size} bytes can hold")
        return count

    def _skip(self, length: int, key: str) -> None:
        if length > self._size - self._file.tell():
            raise self._truncated(key)
        self._file.seek(length, 1)

    def _take(self, length: int, key: str) -> bytes:
        data = self._file.read(length) if length <= self._size else b""
        if len(data) != length:
            raise self._truncated(key)
        return data

    def _truncated(self, key: str) -> ConfigError:
        return ConfigError(f"{self._path}: truncated: it ends inside its header, at {_shown(key)}; download it again")

    def _corrupt(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self._path}: corrupt GGUF header: {_shown(key)} {problem}; download or convert it again")


def _shown(key: str) -> str:
    """A name from the file, fit for one line of an error."""
    return "".join(letter if letter.isprintable() else "?" for letter in key)[:80]
