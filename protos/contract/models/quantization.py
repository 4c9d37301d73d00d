"""Quantization formats: their names, their bits per weight, and what files hold them.

A format has one canonical, lower-case name (``q4_k_m``, ``awq``, ``fp16``). People and files write it in many ways;
``find_format`` takes them all.
"""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Family(StrEnum):
    """How the weights were rounded; formats of one family lose alike at the same bits."""

    FULL = "full precision"
    K_QUANT = "k-quant"
    I_QUANT = "i-quant"
    LEGACY = "legacy"  # round to nearest, one scale a block
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"
    TERNARY = "ternary"  # trained to two or three values a weight
    MLX = "mlx"
    AWQ = "awq"
    GPTQ = "gptq"
    FP8 = "fp8"
    INT8 = "int8"
    NF4 = "nf4"


class FileKind(StrEnum):
    """What holds a model's weights; which engine reads it is the engine's to say."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    MLX = "mlx"  # safetensors as Apple's MLX packs them


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One way to store weights.

    ``bits_per_weight`` is of the whole file where ``keeps_embeddings`` is False, else of the quantized layers only:
    such formats leave embeddings and head at 16 bits.
    """

    name: str
    family: Family
    bits_per_weight: float
    files: tuple[FileKind, ...]  # that hold it
    keeps_embeddings: bool = False
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def quantized(self) -> bool:
        """Whether anything was lost against what the model was published in."""
        return self.family is not Family.FULL

    @property
    def gguf(self) -> bool:
        """Whether it comes as a GGUF file only."""
        return self.files == _GGUF


_GGUF = (FileKind.GGUF,)
_FOLDER = (FileKind.SAFETENSORS,)
_EITHER = (*_GGUF, *_FOLDER)
_QUANTIZE = "llama.cpp tools/quantize/README.md, whole file, Llama-3.1-8B"
_BLOCK = "ggml's block of the type (gguf.types.TENSOR_TYPES)"


def _gguf(name: str, bits: float, family: Family, *aliases: str, source: str = _QUANTIZE) -> Format:
    return Format(name=name, family=family, bits_per_weight=bits, files=_GGUF, aliases=aliases, source=source)


def _layers(name: str, bits: float, family: Family, source: str, *aliases: str) -> Format:
    return Format(
        name=name,
        family=family,
        bits_per_weight=bits,
        files=_FOLDER,
        keeps_embeddings=True,
        aliases=aliases,
        source=source,
    )


def _mlx(bits: int) -> Format:
    return Format(
        name=f"mlx-{bits}bit",
        family=Family.MLX,
        bits_per_weight=bits + 32 / 64,
        files=(FileKind.MLX,),
        aliases=(f"{bits}bit",),
        source="b + 32/64: groups of 64 with a 16-bit scale and a 16-bit bias, embeddings too (mlx.core.quantize)",
    )


_GROUP_128 = "b + 20/128: groups of 128 with a 16-bit scale and a 4-bit zero point (FACTS.md)"

FORMATS: tuple[Format, ...] = (
    Format(name="fp32", family=Family.FULL, bits_per_weight=32.0, files=_EITHER,
           aliases=("f32", "float32"), source="by definition"),
    Format(name="bf16", family=Family.FULL, bits_per_weight=16.0, files=_EITHER,
           aliases=("bfloat16",), source="by definition"),
    Format(name="fp16", family=Family.FULL, bits_per_weight=16.0, files=_EITHER,
           aliases=("f16", "float16", "half"), source="by definition"),
    _layers("fp8", 8.0, Family.FP8, "FACTS.md", "f8", "fp8_dynamic", "fp8_e4m3", "float8", "w8a8_fp8"),
    _layers("int8", 8.0, Family.INT8, "compressed-tensors W8A8", "w8a8", "int8_w8a8", "w8a8_int8",
            "compressed_tensors_int8", "smoothquant"),
    _layers("gptq-int8", 8.0 + 20 / 128, Family.GPTQ, _GROUP_128, "gptq_8bit", "gptq8", "w8a16"),
    _layers("awq", 4.0 + 20 / 128, Family.AWQ, _GROUP_128, "awq_int4", "awq_4bit", "int4_awq", "awq_marlin",
            "awq_gemm"),
    _layers("gptq", 4.0 + 20 / 128, Family.GPTQ, _GROUP_128, "gptq_int4", "gptq_4bit", "int4_gptq",
            "gptq_marlin", "w4a16", "int4"),
    _layers("gptq-int3", 3.0 + 20 / 128, Family.GPTQ, _GROUP_128, "gptq_3bit"),
    Format(name="nvfp4", family=Family.NVFP4, bits_per_weight=4.0 + 8 / 16, files=_EITHER, keeps_embeddings=True,
           aliases=("modelopt_fp4", "nvfp4a16"), source="blocks of 16 with an 8-bit scale (NVIDIA ModelOpt)"),
    _layers("nf4", 4.13, Family.NF4, "FACTS.md, with double quantization",
            "bnb_4bit", "bnb_nf4", "bitsandbytes", "bitsandbytes_4bit", "bnb"),
    _gguf("q8_0", 8.501, Family.K_QUANT, "q8", "q80", "q8_k_xl"),
    _gguf("q6_k", 6.563, Family.K_QUANT, "q6", "q6k", "q6_k_l", "q6_k_xl"),
    _gguf("q5_k_m", 5.704, Family.K_QUANT, "q5_k", "q5km", "q5_k_l", "q5_k_xl"),
    _gguf("q5_k_s", 5.570, Family.K_QUANT, "q5ks"),
    _gguf("q4_k_m", 4.894, Family.K_QUANT, "q4_k", "q4km", "q4_k_l", "q4_k_xl"),
    _gguf("q4_k_s", 4.667, Family.K_QUANT, "q4ks"),
    _gguf("q3_k_l", 4.298, Family.K_QUANT, "q3kl", "q3_k_xl"),
    _gguf("q3_k_m", 3.89, Family.K_QUANT, "q3_k", "q3km", source="llama.cpp, whole file of a 70B (FACTS.md)"),
    _gguf("q3_k_s", 3.643, Family.K_QUANT, "q3ks"),
    _gguf("q2_k", 3.159, Family.K_QUANT, "q2k", "q2_k_l", "q2_k_xl"),
    _gguf("q2_k_s", 2.970, Family.K_QUANT),
    _gguf("q5_1", 6.0, Family.LEGACY, source=_BLOCK),
    _gguf("q5_0", 5.5, Family.LEGACY, "q5", source=_BLOCK),
    _gguf("q4_1", 5.0, Family.LEGACY, source=_BLOCK),
    _gguf("q4_0", 4.5, Family.LEGACY, "q4", source=_BLOCK),
    _gguf("iq4_nl", 4.682, Family.I_QUANT),
    _gguf("iq4_xs", 4.460, Family.I_QUANT),
    _gguf("iq3_m", 3.763, Family.I_QUANT),
    _gguf("iq3_s", 3.661, Family.I_QUANT),
    _gguf("iq3_xs", 3.498, Family.I_QUANT),
    _gguf("iq3_xxs", 3.255, Family.I_QUANT),
    _gguf("iq2_m", 2.929, Family.I_QUANT),
    _gguf("iq2_s", 2.740, Family.I_QUANT),
    _gguf("iq2_xs", 2.588, Family.I_QUANT),
    _gguf("iq2_xxs", 2.382, Family.I_QUANT),
    _gguf("iq1_m", 2.146, Family.I_QUANT),
    _gguf("iq1_s", 2.004, Family.I_QUANT),
    _gguf("tq2_0", 2.0625, Family.TERNARY, source=_BLOCK),
    _gguf("q2_0", 2.25, Family.TERNARY, source=_BLOCK),
    _gguf("tq1_0", 1.6875, Family.TERNARY, source=_BLOCK),
    _gguf("q1_0", 1.125, Family.TERNARY, source=_BLOCK),
    *(_mlx(bits) for bits in (8, 6, 5, 4, 3, 2)),
    Format(name="mxfp4", family=Family.MXFP4, bits_per_weight=4.25, files=_EITHER,
           aliases=("mxfp4_moe",), source=_BLOCK),
)  # fmt: skip
"""Every format with its figure. The order has no meaning; quality has its own (``protos.contract.models.quality``)."""

BY_NAME: dict[str, Format] = {one.name: one for one in FORMATS}


def _key(text: str) -> str:
    return re.sub(r"[\s._-]+", "_", text.strip().lower())


SPELLINGS: dict[str, Format] = {_key(alias): one for one in FORMATS for alias in (one.name, *one.aliases)}
"""Every way to write a format's name, in lower case with ``_`` between its parts."""


@lru_cache(maxsize=1024)
def find_format(name: str) -> Format | None:
    """The format ``name`` stands for, however it is written (``F16``, ``Q4-K-M``, ``gptq-int4``); None: unknown."""
    return SPELLINGS.get(_key(name))


def canonical(name: str) -> str:
    """The canonical name; an unknown one comes back in lower case.

    >>> canonical("Q4_K_M"), canonical("GPTQ-Int4")
    ('q4_k_m', 'gptq')
    """
    known = find_format(name)
    return known.name if known else name.strip().lower()


def near_formats(name: str) -> tuple[str, ...]:
    """Up to three canonical names that look like ``name``, for an error message."""
    found = difflib.get_close_matches(_key(name), SPELLINGS, n=6, cutoff=0.5)
    return tuple(dict.fromkeys(SPELLINGS[one].name for one in found))[:3]


def unknown_format(name: str) -> str:
    """What to tell whoever wrote a name that is none, in one line."""
    near = near_formats(name)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else "known are q8_0, q6_k, q4_k_m, awq, gptq, fp8, fp16 and more"
    )
    return f"unknown quantization {name[:60]!r}; {hint}"
