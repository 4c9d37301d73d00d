"""Small safetensors files of zeros, written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path


def safetensors_file(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], int]]) -> None:
    """Name to dtype, shape and bytes."""
    header, offset = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))
