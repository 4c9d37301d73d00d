"""Facts from a GGUF header: architecture, sizes, quantization, tokenizer and template fingerprints, lineage."""

import hashlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workers.engines.base import LoadError
from workers.models.gguf_header import BadGguf, Header, read_header

MAX_PARTS = 1000
_FIRST_PART = re.compile(r"-00001-of-(?P<count>\d{5})\.gguf$")
_TOKENIZER_ARRAYS = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")

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
    vocabulary: int
    tokenizer_fingerprint: str
    chat_template: str
    chat_template_fingerprint: str
    lineage: str

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values at f16 (2 bytes each)."""
        return self.layers * self.kv_heads * (self.head_dim_k + self.head_dim_v) * 2


def gguf_header(path: Path, *, keep_raw: tuple[str, ...] = ()) -> Header:
    """The header of the file. Raises LoadError in one line when it is missing, truncated, corrupt or not GGUF."""
    if not path.exists():
        raise LoadError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise LoadError(f"{path}: is a folder; llama.cpp needs the .gguf file inside it{_beside(path)}")
    try:
        return read_header(path, keep_raw=keep_raw)
    except BadGguf as error:
        raise LoadError(f"{path}: {error}; {_remedy(path, str(error))}") from None
    except OSError as error:
        raise LoadError(f"{path}: cannot be read ({error.strerror or error})") from None


def _beside(folder: Path) -> str:
    """What the folder offers instead: its GGUF files, or the engine that takes such a folder."""
    files = sorted(one.name for one in folder.glob("*.gguf"))[:3]
    if files:
        return f" ({', '.join(files)})"
    return " (it holds a Hugging Face model: --engine vllm takes it)" if (folder / "config.json").exists() else ""


def _remedy(path: Path, what: str) -> str:
    if what.startswith("not a GGUF") and path.suffix in (".safetensors", ".bin", ".pt", ".pth"):
        return "llama.cpp needs a .gguf file; --engine vllm takes the folder of this one"
    if what.startswith("not a GGUF"):
        return "llama.cpp needs a .gguf file"
    return "download or convert it again"


def read_gguf(path: Path) -> GgufFacts:
    """Facts from the header of ``path`` (and of the other parts of a split model).

    Raises LoadError when one is missing, truncated or corrupt.
    """
    header = gguf_header(path, keep_raw=_TOKENIZER_ARRAYS)
    facts = _facts(path, header)
    others = [gguf_header(part) for part in _other_parts(path)]
    if not others:
        return facts
    parameters = header.parameters + sum(one.parameters for one in others)
    weights_bytes = header.weights_bytes + sum(one.weights_bytes for one in others)
    return replace(
        facts,
        parameters=parameters,
        active_parameters=round(facts.active_parameters * parameters / max(facts.parameters, 1)),
        weights_bytes=weights_bytes,
        bits_per_weight=8.0 * weights_bytes / parameters,
    )


def _other_parts(path: Path) -> list[Path]:
    """The parts after the first of a model that gguf-split cut into several files."""
    found = _FIRST_PART.search(path.name)
    if found is None:
        return []
    stem, count = path.name[: found.start()], int(found["count"])
    return [path.with_name(f"{stem}-{part:05}-of-{count:05}.gguf") for part in range(2, min(count, MAX_PARTS) + 1)]


def stated_quantization(path: Path) -> str:
    """What the file's header says it holds; what its name claims where the header is silent or cannot be read."""
    try:
        kind = read_header(path).metadata.get("general.file_type")
    except (BadGguf, OSError):
        kind = None
    return (quantization_from_file_type(kind) if isinstance(kind, int) else "") or quantization_from_name(path.name)


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


def _tokenizer_fingerprint(header: Header) -> str:
    """Hash of the vocabulary as it stands in the file; equal exactly when token ids mean the same."""
    digest = hashlib.sha256()
    for key in ("tokenizer.ggml.model", "tokenizer.ggml.bos_token_id"):
        digest.update(f"{key}={header.metadata.get(key)}\n".encode())
    for key in _TOKENIZER_ARRAYS:
        digest.update(key.encode() + b"\n" + header.raw.get(key, b""))
    return digest.hexdigest()[:16]


def _facts(path: Path, header: Header) -> GgufFacts:
    said = header.metadata
    arch = str(said.get("general.architecture", ""))
    heads = _scalar(said.get(f"{arch}.attention.head_count", 0))
    head_dim = _scalar(said.get(f"{arch}.embedding_length", 0)) // heads if heads else 0
    template = said.get("tokenizer.chat_template", "")
    template = template if isinstance(template, str) else ""
    file_type = said.get("general.file_type")
    experts = _scalar(said.get(f"{arch}.expert_count", 0))
    used = _scalar(said.get(f"{arch}.expert_used_count", 0))
    weights_bytes, parameters = header.weights_bytes, header.parameters
    return GgufFacts(
        quantization=(quantization_from_file_type(file_type) if isinstance(file_type, int) else "")
        or quantization_from_name(path.name),
        architecture=arch,
        bits_per_weight=8.0 * weights_bytes / parameters if parameters else 0.0,
        weights_bytes=weights_bytes,
        parameters=parameters,
        # attention and embeddings are shared; this is the share of the experts read per token
        active_parameters=parameters * used // experts if experts and used else parameters,
        layers=_scalar(said.get(f"{arch}.block_count", 0)),
        kv_heads=_scalar(said.get(f"{arch}.attention.head_count_kv", heads)),
        head_dim_k=_scalar(said.get(f"{arch}.attention.key_length", head_dim)),
        head_dim_v=_scalar(said.get(f"{arch}.attention.value_length", head_dim)),
        context_tokens=_scalar(said.get(f"{arch}.context_length", 0)),
        vocabulary=_vocabulary(header, arch),
        tokenizer_fingerprint=_tokenizer_fingerprint(header),
        chat_template=template,
        chat_template_fingerprint=hashlib.sha256(template.encode()).hexdigest()[:16] if template else "",
        lineage=str(said.get(LINEAGE_KEY, "")),
    )


def _vocabulary(header: Header, arch: str) -> int:
    """Tokens the output layer tells apart: the longer side of the embedding's shape."""
    told = _scalar(header.metadata.get(f"{arch}.vocab_size", 0))
    embedding = next((one for one in header.tensors if one.name == "token_embd.weight"), None)
    return told or (embedding.shape[-1] if embedding is not None else 0)


def _scalar(value: Any) -> int:
    """Some architectures give one number per layer; the largest is what memory must hold. Zero: no number."""
    if isinstance(value, list):
        return max((int(one) for one in value if isinstance(one, int | float)), default=0)
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
