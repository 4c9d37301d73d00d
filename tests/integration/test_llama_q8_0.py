"""The Q8_0 product that is built into llama.cpp on x86-64 with AVX-512 VNNI, against numpy."""

import ctypes
import platform
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest

Q8_0, F32 = 8, 0  # ggml's types
BLOCK = np.dtype([("scale", "<f2"), ("quants", "i1", 32)])
RANDOM = np.random.default_rng(5)


def _has_vnni() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if platform.system() == "Linux" else ""
    return platform.machine() == "x86_64" and {"avx512_vnni", "avx512bw", "avx512vl"} <= set(flags.split())


pytestmark = pytest.mark.skipif(not _has_vnni(), reason="a processor without AVX-512 VNNI, or not under Linux")


class _Params(ctypes.Structure):
    """The start of ggml_compute_params, which is all that is read."""

    _fields_ = (("ith", ctypes.c_int), ("nth", ctypes.c_int))


def _random(rows: int, blocks: int, largest: int = 127) -> npt.NDArray[np.void]:
    found = np.zeros((rows, blocks), BLOCK)
    found["quants"] = RANDOM.integers(-largest - (largest == 127), largest, (rows, blocks, 32), endpoint=True)
    found["scale"] = RANDOM.uniform(0.001, 0.1, (rows, blocks))
    return found


def _product(
    weights: npt.NDArray[np.void], activations: npt.NDArray[np.void], threads: int = 1
) -> npt.NDArray[np.float32]:
    """Shape (rows of activations, rows of weights)."""
    llama_cpp.llama_backend_init()
    library = ctypes.CDLL("libggml-cpu.so.0")  # by the name of what is loaded already
    (rows, blocks), columns = weights.shape, len(activations)
    results = np.full((columns, rows), np.nan, np.float32)
    for thread in range(threads):
        done = library.__getattr__("__wrap_llamafile_sgemm")(
            ctypes.byref(_Params(thread, threads)),
            *(ctypes.c_int64(one) for one in (rows, columns, blocks)),
            weights.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(blocks),
            activations.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(blocks),
            results.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(rows),
            Q8_0, Q8_0, F32,
        )  # fmt: skip
        assert done & 0xFF
    return results


@pytest.mark.parametrize(("rows", "blocks"), [(16, 1), (48, 18), (208, 48)])
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 21])
def test_the_product_is_numpys(rows: int, blocks: int, columns: int) -> None:
    """Whole numbers are summed exactly, block by block; the largest there are, too."""
    weights, activations = _random(rows, blocks), _random(columns, blocks)
    sums = np.einsum("rbk,cbk->crb", weights["quants"].astype(np.int64), activations["quants"].astype(np.int64))
    scales = activations["scale"].astype(np.float64)[:, None, :] * weights["scale"].astype(np.float64)[None]
    wanted = (sums * scales).sum(2)
    size = (np.abs(sums) * scales).sum(2)
    assert np.all(np.abs(_product(weights, activations) - wanted) <= 1e-5 * size + 1e-6)


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_a_result_depends_neither_on_the_rows_beside_it_nor_on_the_threads(threads: int) -> None:
    """To the last bit: what ``exact`` promises rests on it."""
    weights, activations = _random(160, 18), _random(21, 18)
    together = _product(weights, activations, threads)
    for count in range(1, 10):
        assert np.array_equal(_product(weights, activations[:count]), together[:count])
