"""Four-bit groups with zero points, and how AWQ's GEMM layout packs them into 32-bit words. Pure numpy.

A weight matrix stands as ``[outputs, inputs]``, as in a linear layer; each group is ``group`` inputs of one output.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 4
LEVELS = 2**BITS - 1
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbouring outputs stands in each nibble of a word, lowest first (AutoAWQ's ``order_map``)."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Groups:
    """Quantized weights: ``codes`` [outputs, inputs] in 0..15, ``scales`` and ``zeros`` [outputs, inputs / group]."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float16]
    zeros: NDArray[np.uint8]
    group: int

    def weights(self) -> Floats:
        """What the codes stand for: (code - zero) x scale."""
        zeros = np.repeat(self.zeros.astype(np.float32), self.group, axis=1)
        scales = np.repeat(self.scales.astype(np.float32), self.group, axis=1)
        return (self.codes.astype(np.float32) - zeros) * scales


def quantize(weights: Floats, group: int) -> Groups:
    """Round to the nearest of 16 levels between each group's least and greatest weight.

    Raises ValueError when ``group`` does not divide the inputs, or the outputs do not fill whole words.
    """
    outputs, inputs = weights.shape
    if inputs % group or outputs % len(ORDER):
        raise ValueError(
            f"a matrix of {outputs} x {inputs} cannot be packed: groups of {group} must divide the inputs, "
            f"and {len(ORDER)} the outputs"
        )
    grouped = weights.reshape(outputs, inputs // group, group)
    most = np.maximum(grouped.max(axis=2), 0.0)
    least = np.minimum(grouped.min(axis=2), 0.0)
    scales = np.maximum((most - least) / LEVELS, 1e-5).astype(np.float16)
    wide = scales.astype(np.float32)
    zeros = np.clip(np.round(-least / wide), 0, LEVELS)
    codes = np.clip(np.round(grouped / wide[..., None]) + zeros[..., None], 0, LEVELS)
    return Groups(codes.reshape(outputs, inputs).astype(np.uint8), scales, zeros.astype(np.uint8), group)


def pack(codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """``[rows, outputs]`` in 0..15 to words ``[rows, outputs / 8]``."""
    rows, outputs = codes.shape
    eights = codes.reshape(rows, outputs // len(ORDER), len(ORDER)).astype(np.uint32)
    words = np.zeros(eights.shape[:2], dtype=np.uint32)
    for nibble, place in enumerate(ORDER):
        words |= eights[:, :, place] << np.uint32(BITS * nibble)
    return words.view(np.int32)


def unpack(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The inverse of ``pack``."""
    rows, count = words.shape
    codes = np.zeros((rows, count, len(ORDER)), dtype=np.uint8)
    for nibble, place in enumerate(ORDER):
        codes[:, :, place] = (words.view(np.uint32) >> np.uint32(BITS * nibble)) & np.uint32(LEVELS)
    return codes.reshape(rows, count * len(ORDER))


def tensors(groups: Groups) -> dict[str, NDArray[np.int32] | NDArray[np.float16]]:
    """The three tensors that stand for one linear layer's weight, by their names' last part."""
    return {
        "qweight": pack(np.ascontiguousarray(groups.codes.T)),
        "qzeros": pack(np.ascontiguousarray(groups.zeros.T)),
        "scales": np.ascontiguousarray(groups.scales.T),
    }
