"""AWQ's four-bit groups and their layout in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.awq.packing import pack, quantize, tensors, unpack

codes = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.sampled_from([8, 16, 24])), elements=st.integers(0, 15))


@given(codes)
def test_packing_is_reversible(matrix: np.ndarray) -> None:
    """Eight codes a word."""
    words = pack(matrix)
    assert words.shape == (matrix.shape[0], matrix.shape[1] // 8)
    assert np.array_equal(unpack(words), matrix)


def test_the_order_is_autoawqs() -> None:
    """Outputs 0, 2, 4, 6, 1, 3, 5, 7 stand in a word from its lowest nibble on (AutoAWQ, gemm.py, order_map)."""
    word = int(pack(np.arange(8, dtype=np.uint8)[None, :]).view(np.uint32)[0, 0])
    assert [(word >> 4 * nibble) & 15 for nibble in range(8)] == [0, 2, 4, 6, 1, 3, 5, 7]


@given(arrays.arrays(np.float32, (8, 32), elements=st.floats(-4, 4, width=32)))
def test_rounding_loses_at_most_half_a_step(weights: np.ndarray) -> None:
    """A step is a group's range in fifteen parts; clipping at the ends of a rounded zero point costs at most one."""
    groups = quantize(weights, 16)
    step = np.repeat(groups.scales.astype(np.float32), 16, axis=1)
    assert (np.abs(groups.weights() - weights) <= 1.01 * step).all()


def test_shapes_are_what_vllm_reads() -> None:
    """qweight [inputs, outputs / 8], qzeros [groups, outputs / 8], scales [groups, outputs]."""
    made = tensors(quantize(np.ones((24, 64), dtype=np.float32), 32))
    assert {name: one.shape for name, one in made.items()} == {
        "qweight": (64, 3), "qzeros": (2, 3), "scales": (2, 24),
    }  # fmt: skip


def test_what_does_not_fit_is_refused() -> None:
    """Groups that do not divide the inputs."""
    with pytest.raises(ValueError, match="groups of 48"):
        quantize(np.ones((8, 64), dtype=np.float32), 48)
