"""Facts from a GGUF header: architecture, sizes, quantization, tokenizer and template fingerprints, lineage."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engines.base import LoadError

MAGIC = b"GGUF"
LINEAGE_KEY = "allsorts.lineage"
"""Written when this project requantizes a file, because a Q8_0 made from a Q4_1 is no better than the Q4_1."""

_FILE_TYPES = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s",
    12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k",
    19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl",
    26: "iq3_s", 27: "iq3_m", 28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16", 38: "mxfp4",
}  # fmt: skip
"""llama.cpp's ``llama_ftype``, as ``general.file_type`` holds it."""

_NAME = re.compile(r"(?i)(?:^|[-_.])(iq\d_\w+?|q\d_k(?:_[sml])?|q\d_[01]|f16|bf16|f32|mxfp4)(?:[-_.]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a GGUF file says of itself. Zero or empty: it does not say."""

    quantization: str
    architecture: str
    bits_per_weight: float
    weights_bytes: int
    parameters: int
    active_parameters: int
    layers: int
    kv_heads: int
    head_dim_k: int
    head_dim_v: int
    context_tokens: int
    tokenizer_fingerprint: str
    chat_template: str
    chat_template_fingerprint: str
    lineage: str

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values at f16 (2 bytes each)."""
        return self.layers * self.kv_heads * (self.head_dim_k + self.head_dim_v) * 2


def check_gguf(path: Path) -> None:
    """Raise LoadError in one line when ``path`` cannot be a GGUF file."""
    if not path.exists():
        raise LoadError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise LoadError(f"{path}: is a folder; name the .gguf file inside it")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LoadError(f"{path}: cannot be read ({error.strerror})") from error
    if magic != MAGIC:
        raise LoadError(f"{path}: not a GGUF file (it starts with {magic!r}); llama.cpp needs a .gguf file")


def read_gguf(path: Path) -> GgufFacts:
    """Read the header of ``path``; raises LoadError when it is missing, truncated or corrupt."""
    check_gguf(path)
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise LoadError(f"{path}: truncated or corrupt GGUF header; download or convert it again") from error
    weights = sum(int(tensor.n_bytes) for tensor in reader.tensors)
    end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    if end > path.stat().st_size or not reader.tensors:
        raise LoadError(f"{path}: truncated: its tensors end at byte {end}, the file at {path.stat().st_size}")
    return _facts(path, _Fields(reader), weights, sum(int(t.n_elements) for t in reader.tensors))


def quantization_from_file_type(number: int) -> str:
    """The quantization ``general.file_type`` stands for; empty when unknown."""
    return _FILE_TYPES.get(number, "")


def quantization_from_name(name: str) -> str:
    """The quantization a file name claims, canonical; empty when it claims none. A last resort."""
    found = _NAME.search(Path(name).stem)
    if found is None:
        return ""
    claimed = found.group(1).lower()
    return {"f16": "fp16", "f32": "fp32"}.get(claimed, claimed)


class _Fields:
    """Typed access to a reader's key-value pairs."""

    def __init__(self, reader: Any) -> None:
        self._fields = reader.fields

    def get(self, key: str, default: Any) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def digest(self, *keys: str) -> str:
        """Hash of the raw bytes of some fields; cheaper than decoding 100,000 token strings."""
        digest = hashlib.sha256()
        for key in keys:
            field = self._fields.get(key)
            if field is not None:
                digest.update(key.encode())
                for part in field.parts:
                    digest.update(part.tobytes())
        return digest.hexdigest()[:16]


def _facts(path: Path, fields: _Fields, weights_bytes: int, parameters: int) -> GgufFacts:
    arch = str(fields.get("general.architecture", ""))
    heads = _scalar(fields.get(f"{arch}.attention.head_count", 0))
    head_dim = _scalar(fields.get(f"{arch}.embedding_length", 0)) // heads if heads else 0
    template = str(fields.get("tokenizer.chat_template", ""))
    file_type = fields.get("general.file_type", None)
    experts = _scalar(fields.get(f"{arch}.expert_count", 0))
    used = _scalar(fields.get(f"{arch}.expert_used_count", 0))
    return GgufFacts(
        quantization=_FILE_TYPES.get(file_type, "") or quantization_from_name(path.name),
        architecture=arch,
        bits_per_weight=8.0 * weights_bytes / parameters if parameters else 0.0,
        weights_bytes=weights_bytes,
        parameters=parameters,
        # attention and embeddings are shared; this is the share of the experts read per token
        active_parameters=parameters * used // experts if experts and used else parameters,
        layers=_scalar(fields.get(f"{arch}.block_count", 0)),
        kv_heads=_scalar(fields.get(f"{arch}.attention.head_count_kv", heads)),
        head_dim_k=_scalar(fields.get(f"{arch}.attention.key_length", head_dim)),
        head_dim_v=_scalar(fields.get(f"{arch}.attention.value_length", head_dim)),
        context_tokens=_scalar(fields.get(f"{arch}.context_length", 0)),
        tokenizer_fingerprint=fields.digest(
            "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.bos_token_id"
        ),
        chat_template=template,
        chat_template_fingerprint=hashlib.sha256(template.encode()).hexdigest()[:16] if template else "",
        lineage=str(fields.get(LINEAGE_KEY, "")),
    )


def _scalar(value: Any) -> int:
    """Some architectures give one number per layer; the largest is what memory must hold."""
    return int(max(value)) if isinstance(value, list) else int(value)
