"""Facts about a Hugging Face folder, from its config.json and the headers of its weights; nothing is loaded. Pure
apart from reading those files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engines.base import LoadError

LINEAGE_KEY = "allsorts_lineage"
MAX_HEADER_BYTES = 100 * 2**20
"""Of a safetensors file (the format's own limit)."""

_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
          "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U32": 4, "U16": 2, "F4": 0.5}  # fmt: skip
_PLAIN = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
_PACKED = ("qweight", "weight_packed")
"""Last parts of the names of tensors that hold several weights in one 32-bit word."""
_PACKS = ("awq", "gptq")
"""Formats that have such tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """What a model's folder says of itself. Zero or empty: it does not say."""

    quantization: str  # awq, gptq, fp8, w8a8, bnb-nf4, fp16, bf16 …
    format: str  # awq, gptq, fp8, compressed-tensors, bitsandbytes, safetensors
    bits: int  # of one quantized weight
    weights_bytes: int
    parameters: int
    active_parameters: int
    layers: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    end_tokens: tuple[int, ...]  # ids that end an answer
    lineage: str

    @property
    def bits_per_weight(self) -> float:
        """Of the whole file, scales and embeddings included."""
        return 8.0 * self.weights_bytes / self.parameters if self.parameters else float(self.bits)


def read_folder(path: Path) -> FolderFacts:
    """Facts about the folder at ``path``. Raises LoadError in one line: what, where, what to do."""
    config = _read_config(path)
    text = config.get("text_config", config)  # multimodal models keep their language model's shape inside
    quantization, kind, bits = _quantization(config, path)
    weights_bytes, parameters = _weights(path, kind, bits, tied=bool(config.get("tie_word_embeddings")))
    heads = int(text.get("num_attention_heads") or 0)
    experts, used = (int(text.get(key) or 0) for key in ("num_local_experts", "num_experts_per_tok"))
    experts = experts or int(text.get("num_experts") or 0)
    return FolderFacts(
        quantization=quantization,
        format=kind,
        bits=bits,
        weights_bytes=weights_bytes,
        parameters=parameters,
        active_parameters=parameters * used // experts if experts and used else parameters,
        layers=int(text.get("num_hidden_layers") or 0),
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or (int(text.get("hidden_size") or 0) // heads if heads else 0)),
        context_tokens=int(text.get("max_position_embeddings") or 0),
        end_tokens=_end_tokens(path, config),
        lineage=str(config.get(LINEAGE_KEY, "")),
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise LoadError(f"{path}: no such folder; check the path")
    if path.is_file():
        raise LoadError(
            f"{path}: is a file; vLLM needs a model's folder with config.json (GGUF files: --engine llama.cpp)"
        )
    config = path / "config.json"
    if not config.exists():
        raise LoadError(f"{path}: has no config.json; it must be a Hugging Face model folder")
    found = _json(config)
    if not isinstance(found, dict):
        raise LoadError(f"{config}: must hold an object, not {type(found).__name__}")
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise LoadError(f"{path}: has no weights (*.safetensors); the download is not complete")
    return found


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{file}: not valid JSON ({error}); download it again") from error


def _quantization(config: dict[str, Any], path: Path) -> tuple[str, str, int]:
    """(our name, format, bits per quantized weight)."""
    told = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(told, dict):
        plain = str(config.get("dtype") or config.get("torch_dtype") or "float16").removeprefix("torch.")
        return _PLAIN.get(plain, plain), "safetensors", 32 if plain == "float32" else 16
    method = str(told.get("quant_method", "")).replace("_", "-")
    bits = int(told.get("bits") or told.get("w_bit") or 4)
    if method in ("awq", "gptq"):
        return (method if bits == 4 else f"{method}-{bits}bit"), method, bits
    if method in ("fp8", "fbgemm-fp8"):
        return "fp8", "fp8", 8
    if method == "compressed-tensors":
        return _compressed(told)
    if method == "bitsandbytes":
        four = bool(told.get("load_in_4bit"))
        return (f"bnb-{told.get('bnb_4bit_quant_type', 'nf4')}" if four else "bnb-int8"), method, 4 if four else 8
    if not method:
        raise LoadError(f"{path / 'config.json'}: quantization_config has no quant_method; it must name the method")
    return method, method, bits


def _compressed(told: dict[str, Any]) -> tuple[str, str, int]:
    """compressed-tensors names schemes by what weights and activations are: w4a16, w8a8, fp8."""
    groups = told.get("config_groups") or {}
    first: dict[str, Any] = next(iter(groups.values()), {}) if isinstance(groups, dict) else {}
    weights, inputs = first.get("weights") or {}, first.get("input_activations") or {}
    bits = int(weights.get("num_bits") or 8)
    if weights.get("type") == "float" and bits == 8:
        return "fp8", "compressed-tensors", 8
    return f"w{bits}a{int(inputs.get('num_bits') or 16)}", "compressed-tensors", bits


def _weights(path: Path, kind: str, bits: int, *, tied: bool) -> tuple[int, int]:
    """(bytes, parameters) by the headers of all weight files.

    Raises LoadError when none is packed though the format packs them: vLLM would serve whatever lies in memory.
    """
    size, count, packed = 0.0, 0, 0
    for file in sorted(path.glob("*.safetensors")):
        for name, tensor in _header(file).items():
            if name == "__metadata__":
                continue
            elements = 1
            for side in tensor["shape"]:
                elements *= int(side)
            size += elements * _BYTES.get(str(tensor["dtype"]), 2)
            last = name.rpartition(".")[2]
            if last in _PACKED:
                count += elements * 32 // bits
                packed += 1
            elif last in ("weight", "bias") and not (tied and name.startswith("lm_head")):
                count += elements
    if not size:  # pickled weights say nothing without being loaded
        size = sum(file.stat().st_size for file in path.glob("*.bin"))
        count = int(size * 8 // bits)
    elif kind in _PACKS and not packed:
        raise LoadError(
            f"{path}: its config.json says {kind}, its files hold no weights in that format; download it again"
        )
    return int(size), count


def _header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file; raises LoadError when it, or what follows it, is cut."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                raise LoadError(f"{file}: corrupt: its header claims {length} bytes; download it again")
            header = json.loads(opened.read(length))
        end = max((int(one["data_offsets"][1]) for name, one in header.items() if name != "__metadata__"), default=0)
    except OSError as error:
        raise LoadError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise LoadError(f"{file}: corrupt safetensors header; download it again") from error
    if 8 + length + end > file.stat().st_size:
        raise LoadError(
            f"{file}: truncated: its tensors end at byte {8 + length + end}, the file at {file.stat().st_size}"
        )
    return dict(header)


def _end_tokens(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    generation = path / "generation_config.json"
    told = (_json(generation) if generation.exists() else {}).get("eos_token_id", config.get("eos_token_id"))
    return tuple(int(one) for one in (told if isinstance(told, list) else [told]) if one is not None)
