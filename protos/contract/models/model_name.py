"""What the name of a model's file, folder or repository says: the model, its quantization, which part of it this is.

Examples: ``llama-70b.Q4_K_M-00001-of-00003.gguf``, ``org/Model-70B-Instruct-AWQ``, ``llama3.3:70b-instruct-q4_K_M``,
``gemma@4bit`` (LM Studio and routers like ours write variants so).
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

from protos.contract.models.quantization import BY_NAME, SPELLINGS, Format, canonical, find_format

UNKNOWN = "unknown"
"""What stands behind ``@`` where a server knows a variant's quantization no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedName:
    """What a name says. ``quantization`` is canonical, or as written where no table knows it; empty: it names none."""

    model: str  # without quantization, shard and extension; as written
    quantization: str = ""
    shard: int = 0  # 1-based; 0: the file is whole
    shards: int = 0

    @property
    def format(self) -> Format | None:
        """The quantization's figures, where they are known."""
        return BY_NAME.get(self.quantization)


_SHARD = re.compile(r"[-._](\d{5})-of-(\d{5})$")
_EXTENSIONS = (".gguf", ".safetensors")
_AMBIGUOUS = frozenset({"q8", "q6", "q5", "q4", "half", "bnb", "int4", *(f"{bits}bit" for bits in range(2, 9))})
"""Too short to be looked for inside a name, where they may be part of the model's own."""
_IN_NAME = re.compile(
    r"(?<![a-z0-9])(?:"
    + "|".join(
        "[-_. ]?".join(re.escape(part) for part in key.split("_"))
        for key in sorted(SPELLINGS, key=len, reverse=True)
        if key not in _AMBIGUOUS
    )
    + r")(?![a-z0-9])",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"(?:^|[-._ :@])([it]?q\d(?:_[0-9a-z]+)*|int4|bnb|\dbit|w\d{1,2}a\d{1,2})$", re.IGNORECASE)
"""At a name's end also what is too short elsewhere, and what looks like a quantization that no table knows."""


def parse_name(name: str) -> ParsedName:
    """Take a name apart; of several quantizations the last counts: ``Model-BF16-AWQ`` holds AWQ."""
    stem = PurePath(name.rstrip("/")).name
    for extension in _EXTENSIONS:
        if stem.lower().endswith(extension):
            stem = stem[: -len(extension)]
    shard = shards = 0
    numbered = _SHARD.search(stem)
    if numbered:
        shard, shards = int(numbered.group(1)), int(numbered.group(2))
        stem = stem[: numbered.start()]
    model, quantization = _variant(stem) or _in_name(stem)
    return ParsedName(model=model or stem, quantization=quantization, shard=shard, shards=shards)


def quantization_in(name: str) -> str:
    """The quantization a name speaks of, until the file itself has been read; empty: it says nothing.

    >>> quantization_in("Llama-3.3-70B-Instruct-Q4_K_M.gguf"), quantization_in("Qwen3-8B-AWQ")
    ('q4_k_m', 'awq')
    """
    return parse_name(name).quantization


def _variant(stem: str) -> tuple[str, str] | None:
    """``model@quantization``; None where what stands behind the last ``@`` is none."""
    model, at, variant = stem.rpartition("@")
    if at and (find_format(variant) or _LAST_WORD.fullmatch(variant) or variant.lower() == UNKNOWN):
        return model.rstrip("-._@: "), canonical(variant)
    return None


def _in_name(stem: str) -> tuple[str, str]:
    found = list(_IN_NAME.finditer(stem))
    last = found[-1] if found else None
    word = _LAST_WORD.search(stem)
    if word and (last is None or last.end() < len(stem)):
        return stem[: word.start()].rstrip("-_.: "), canonical(word.group(1))
    if last is None:
        return stem, ""
    before, after = stem[: last.start()].rstrip("-_.: "), stem[last.end() :].lstrip("-_. ")
    return "-".join(part for part in (before, after) if part), _format_of(last.group()).name


def _format_of(matched: str) -> Format:
    """The format of a match, whose separators may be missing (``gptqint4``)."""
    squeezed = re.sub(r"[\s._-]+", "", matched.lower())
    return next(one for key, one in SPELLINGS.items() if key.replace("_", "") == squeezed)
