"""The seconds of a decode step by its sequences, on NVIDIA's GPUs, as their kernels take them. Pure.

Measured on an H100 SXM (FACTS.md, "H100, measured"): four models on llama.cpp, two on vLLM, one to 64 sequences. A
step is no straight line there. llama.cpp multiplies quantized weights with up to eight sequences by integer products on
the ordinary cores, each sequence again (``ggml_cuda_mul_mat_vec_q``, MMVQ_MAX_BATCH_SIZE); with more, in tiles on the
tensor cores, where the first costs much and each further one little: a 70B takes 58 ms at 8 and 46 at 16. vLLM's host
prepares each step, which a small model waits for, and its kernels read while they compute.

Every constant serves at least two of the models. In ``make bench-machines`` all 42 cells stand with what is predicted.
"""

import re
from dataclasses import dataclass

from router.capacity.chip_table import Chip, MemoryKind

READ_SHARE = 0.95
"""Of the bandwidth, what reading weights reaches: 3.03 TB/s were copied of 3.35."""

NARROW_SEQUENCES = 8
LAYER_S = 62e-6
"""A layer's launches, norms and attention of one sequence."""
UNPACK_OPS, NARROW_OPS, SEQUENCE_OPS = 3.8, 9.6, 5.3
"""Operations of ordinary cores a weight: what unpacking adds to reading; a narrow product's own part; and each
sequence's. The larger of reading and multiplying counts."""
TILE_OPS = 11.4
"""The same of a wide product's tiles, whatever their number of sequences."""
TILED_SHARE = 0.163
"""Of the data sheet's 16-bit compute, what wide products of quantized weights reach on cards with HBM: decode of 16 to
64 sequences, and prefill (1222 tokens/s of a 70B)."""
SEQUENCE_LAYER_S = 1.5e-6
"""Of each sequence in each layer: its attention, and its logits on their way to the host."""

HOST_LAYER_S, HOST_SEQUENCE_S = 80e-6, 35e-6
"""vLLM 0.26 with CUDA graphs: 2.6 ms for 30 layers and nothing to read (SmolLM2-135M), 4.8 at 64 sequences."""
VLLM_SHARE = 0.635
"""Of the 16-bit compute, what its products reach (8B AWQ, prefill of 2048 and 8000 tokens: 38,000 tokens/s)."""

_GEFORCE = re.compile(r"RTX \d{4}(?: Ti| SUPER| Laptop)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one decode step has to do, but for the context."""

    read_bytes: float
    weights: float  # active ones
    layers: int
    packed: bool  # fewer than 16 bits a weight, to be unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What works on it together. ``core_flops``: of ordinary cores; ``tensor_flops``: 16-bit, by the catalogue."""

    bytes_per_s: float
    tensor_flops: float
    core_flops: float


def card_of(chip: Chip, *, bytes_per_s: float, devices: int) -> Card:
    """Ordinary cores reach a fifteenth of the tensor cores' figure on cards with HBM (H100: 67 of 989 TFLOP/s), half on
    GeForce and a quarter on professional cards (data sheets; FP32 accumulation).
    """
    ratio = 15.0 if chip.memory_kind is MemoryKind.HBM else 2.0 if _GEFORCE.fullmatch(chip.name) else 4.0
    flops = devices * chip.compute_flops
    return Card(bytes_per_s=bytes_per_s, tensor_flops=flops, core_flops=flops / ratio)


def llama_cpp_step_s(work: Work, card: Card, batch: int, *, tiled_share: float = TILED_SHARE) -> float:
    """A decode step of llama.cpp's CUDA backend. ``tiled_share``: TILED_SHARE's part, on cards without HBM."""
    launches = work.layers * LAYER_S
    read = work.read_bytes / (READ_SHARE * card.bytes_per_s)
    weight_s = work.weights / card.core_flops
    if not work.packed and batch == 1:
        return launches + read
    if work.packed and batch <= NARROW_SEQUENCES:
        return launches + max(read + UNPACK_OPS * weight_s, (NARROW_OPS + SEQUENCE_OPS * batch) * weight_s)
    share = tiled_share if work.packed else max(tiled_share, PLAIN_SHARE)
    each = 2.0 * work.weights / (share * card.tensor_flops) + SEQUENCE_LAYER_S * work.layers
    return launches + read + TILE_OPS * weight_s + batch * each


PLAIN_SHARE = 0.4
"""Of the 16-bit compute, what products of unquantized weights reach, as on any other device (``speed``)."""


def vllm_step_s(work: Work, card: Card, batch: int) -> float:
    """A decode step of vLLM: the host's part, then reading or computing, whichever takes longer."""
    read = work.read_bytes / (READ_SHARE * card.bytes_per_s)
    compute = batch * 2.0 * work.weights / (VLLM_SHARE * card.tensor_flops)
    return work.layers * HOST_LAYER_S + batch * HOST_SEQUENCE_S + max(read, compute)
