"""Quantization formats: their names, their bits per weight, and what files hold them.

A format has one canonical, lower-case name (``q4_k_m``, ``awq``, ``fp16``). People and files write it in many ways;
``find_format`` takes them all, ``parse_name`` finds it in a file's or a repository's name.
"""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import PurePath


class Family(StrEnum):
    """How the weights were rounded; formats of one family lose alike at the same bits."""

    FULL = "full precision"
    K_QUANT = "k-quant"
    I_QUANT = "i-quant"
    LEGACY = "legacy"  # round to nearest, one scale a block
    MXFP4 = "mxfp4"
    AWQ = "awq"
    GPTQ = "gptq"
    FP8 = "fp8"
    INT8 = "int8"
    NF4 = "nf4"


class FileKind(StrEnum):
    """What holds a model's weights; which engine reads it is ``router.capacity.engines``'s to say."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"


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
_BLOCK = "gguf-parser-go ggml.go, bits of a block"


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
    _layers("nf4", 4.13, Family.NF4, "FACTS.md, with double quantization",
            "bnb_4bit", "bnb_nf4", "bitsandbytes", "bitsandbytes_4bit", "bnb"),
    _gguf("q8_0", 8.501, Family.K_QUANT, "q8", "q80"),
    _gguf("q6_k", 6.563, Family.K_QUANT, "q6", "q6k"),
    _gguf("q5_k_m", 5.704, Family.K_QUANT, "q5_k", "q5km"),
    _gguf("q5_k_s", 5.570, Family.K_QUANT, "q5ks"),
    _gguf("q4_k_m", 4.894, Family.K_QUANT, "q4_k", "q4km"),
    _gguf("q4_k_s", 4.667, Family.K_QUANT, "q4ks"),
    _gguf("q3_k_l", 4.298, Family.K_QUANT, "q3kl"),
    _gguf("q3_k_m", 3.89, Family.K_QUANT, "q3_k", "q3km", source="llama.cpp, whole file of a 70B (FACTS.md)"),
    _gguf("q3_k_s", 3.643, Family.K_QUANT, "q3ks"),
    _gguf("q2_k", 3.159, Family.K_QUANT, "q2k"),
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
    Format(name="mxfp4", family=Family.MXFP4, bits_per_weight=4.25, files=_EITHER,
           aliases=("mxfp4_moe",), source=_BLOCK),
)  # fmt: skip
"""Every format with its figure. The order has no meaning; quality has its own (``router.capacity.quality``)."""

BY_NAME: dict[str, Format] = {one.name: one for one in FORMATS}


def _key(text: str) -> str:
    return re.sub(r"[\s._-]+", "_", text.strip().lower())


_BY_KEY: dict[str, Format] = {_key(alias): one for one in FORMATS for alias in (one.name, *one.aliases)}


@lru_cache(maxsize=1024)
def find_format(name: str) -> Format | None:
    """The format ``name`` stands for, however it is written (``F16``, ``Q4-K-M``, ``gptq-int4``); None: unknown."""
    return _BY_KEY.get(_key(name))


def canonical(name: str) -> str:
    """The canonical name; an unknown one comes back in lower case."""
    known = find_format(name)
    return known.name if known else name.strip().lower()


def near_formats(name: str) -> tuple[str, ...]:
    """Up to three canonical names that look like ``name``, for an error message."""
    found = difflib.get_close_matches(_key(name), _BY_KEY, n=6, cutoff=0.5)
    return tuple(dict.fromkeys(_BY_KEY[one].name for one in found))[:3]


def unknown_format(name: str) -> str:
    """What to tell whoever wrote a name that is none, in one line."""
    near = near_formats(name)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else "known are q8_0, q6_k, q4_k_m, awq, gptq, fp8, fp16 and more"
    )
    return f"unknown quantization {name[:60]!r}; {hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedName:
    """What a file's or repository's name says. ``format`` None: it names none."""

    model: str  # without quantization, shard and extension; as written
    format: Format | None = None
    shard: int = 0  # 1-based; 0: the file is whole
    shards: int = 0


_SHARD = re.compile(r"[-._](\d{5})-of-(\d{5})$")
_AMBIGUOUS = frozenset({"q8", "q6", "q5", "q4", "half", "bnb", "int4"})
"""Too short to be looked for inside a name, where they may be part of the model's own."""
_IN_NAME = re.compile(
    r"(?<![a-z0-9])(?:"
    + "|".join(
        "[-_. ]?".join(re.escape(part) for part in key.split("_"))
        for key in sorted(_BY_KEY, key=len, reverse=True)
        if key not in _AMBIGUOUS
    )
    + r")(?![a-z0-9])",
    re.IGNORECASE,
)
_EXTENSIONS = (".gguf", ".safetensors")


def parse_name(name: str) -> ParsedName:
    """``llama-70b.Q4_K_M-00001-of-00003.gguf``, ``org/Model-70B-Instruct-AWQ``, ``llama3.3:70b-instruct-q4_K_M``."""
    stem = PurePath(name.rstrip("/")).name
    for extension in _EXTENSIONS:
        if stem.lower().endswith(extension):
            stem = stem[: -len(extension)]
    shard = shards = 0
    numbered = _SHARD.search(stem)
    if numbered:
        shard, shards = int(numbered.group(1)), int(numbered.group(2))
        stem = stem[: numbered.start()]
    found = list(_IN_NAME.finditer(stem))
    if not found:
        return ParsedName(model=stem, shard=shard, shards=shards)
    last = found[-1]  # what stands last was done last: Model-BF16-AWQ holds AWQ
    before, after = stem[: last.start()].rstrip("-_. "), stem[last.end() :].lstrip("-_. ")
    model = "-".join(part for part in (before, after) if part) or stem
    return ParsedName(model=model, format=_BY_KEY[_match_key(last.group())], shard=shard, shards=shards)


def _match_key(text: str) -> str:
    """The table's key for a match, whose separators may be missing (``gptqint4``)."""
    squeezed = _key(text).replace("_", "")
    return next(key for key in _BY_KEY if key.replace("_", "") == squeezed)
