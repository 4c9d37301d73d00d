"""The header of a safetensors file: names, types and shapes of its tensors, with nothing of it believed unchecked.

Format: eight bytes that give the length of a JSON object, the object, the data (the safetensors README).
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from protos.contract.models.errors import BadModelFile

MAX_HEADER_BYTES = 100 * 2**20
"""The format's own limit."""

_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
          "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U64": 8, "U32": 4, "U16": 2, "F4": 0.5}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """One tensor as the header lists it."""

    name: str
    elements: int
    size_bytes: float


def read_tensors(path: Path) -> list[SafeTensor]:
    """All tensors of the file. Raises BadModelFile when its header is corrupt, or what follows it is cut."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(MAX_HEADER_BYTES, size):
                raise BadModelFile(path, f"corrupt: its header claims {length} bytes")
            header = json.loads(file.read(length))
    except OSError as error:
        raise BadModelFile(path, f"cannot be read ({error.strerror or error})", "check the path") from None
    except (ValueError, RecursionError):
        raise BadModelFile(path, "corrupt safetensors header") from None
    try:
        entries = [(name, one) for name, one in header.items() if name != "__metadata__"]
        end = 8 + length + max((int(one["data_offsets"][1]) for _, one in entries), default=0)
        tensors = [_tensor(name, one["dtype"], one["shape"]) for name, one in entries]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise BadModelFile(path, "corrupt safetensors header") from None
    if end > size:
        raise BadModelFile(path, f"truncated: its tensors end at byte {end}, the file at {size}")
    return tensors


def _tensor(name: str, dtype: str, shape: list[int]) -> SafeTensor:
    elements = prod(int(side) for side in shape)
    return SafeTensor(name, elements, elements * _BYTES.get(dtype, 2))
