"""ggml's tables, against the library that is installed."""

import ctypes
import re
from pathlib import Path

import pytest

from protos.contract.models.gguf.types import FILE_TYPES, TENSOR_TYPES
from protos.contract.models.quantization import BY_NAME

llama_cpp = pytest.importorskip("llama_cpp")


def test_every_type_of_the_library_has_its_block_here() -> None:
    """The same names and sizes, and no type more or less."""
    libraries = sorted((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base.*"))
    if not libraries:
        pytest.skip("the library that holds the table is not beside the package")
    ggml = ctypes.CDLL(str(libraries[0]))
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_name.restype = ctypes.c_char_p
    told = {}
    for number in range(llama_cpp.GGML_TYPE_COUNT):
        if ggml.ggml_blck_size(number):
            name = ggml.ggml_type_name(number).decode().upper()
            told[number] = (name, ggml.ggml_blck_size(number), ggml.ggml_type_size(number))
    assert told == {number: (one.name, one.block_weights, one.block_bytes) for number, one in TENSOR_TYPES.items()}


def test_every_file_type_of_the_library_has_a_canonical_name() -> None:
    """``LLAMA_FTYPE_MOSTLY_Q4_K_M`` is q4_k_m; each has figures."""
    told = {}
    for constant in dir(llama_cpp):
        if found := re.fullmatch(r"LLAMA_FTYPE_(?:MOSTLY|ALL)_(\w+)", constant):
            name = found.group(1).lower().removesuffix("_moe")
            told[getattr(llama_cpp, constant)] = {"f32": "fp32", "f16": "fp16"}.get(name, name)
    assert told == dict(FILE_TYPES)
    assert all(name in BY_NAME for name in FILE_TYPES.values())
