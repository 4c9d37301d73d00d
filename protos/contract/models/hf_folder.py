"""A model's folder as Hugging Face keeps it: config.json, and what the headers of the weights add. Loads nothing."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.fields import Fields
from protos.contract.models.hf_config import StatedQuantization, quantization_of, shape_from_config
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.safetensors import SafeTensor, read_tensors
from protos.contract.models.sampling import HF_NAMES, sampling_told

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20

_PACKED = ("qweight", "weight_packed")
"""Last parts of the names of tensors that hold several weights in one 32-bit word."""
_PACKS = frozenset({"awq", "gptq"})
"""Methods that have such tensors."""
_COUNTED = frozenset({"safetensors", "awq", "gptq", "fp8", "compressed-tensors"})
"""Methods whose tensors tell how many weights they hold; others pack them in ways that names do not show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HfFolder:
    """What a folder says of its model."""

    shape: ModelShape
    stated: StatedQuantization
    end_tokens: tuple[int, ...]  # ids that end an answer


def read_config(path: Path) -> HfFolder:
    """Read a config.json and the weights beside it, if any. Raises BadModelFile."""
    folder, config = path.parent, _json(path, MAX_CONFIG_BYTES)
    stated = quantization_of(path, config)
    tied = Fields(path, config).flag("tie_word_embeddings", default=False)
    weights_bytes, parameters = _weights(folder, stated, tied=tied)
    shape = shape_from_config(path, config, parameters=parameters, weights_bytes=weights_bytes)
    generation = _generation(folder)
    shape = replace(shape, sampling=sampling_told(generation, HF_NAMES))
    return HfFolder(shape=shape, stated=stated, end_tokens=_end_tokens(generation, config))


def _weights(folder: Path, stated: StatedQuantization, *, tied: bool) -> tuple[int, int]:
    """Bytes, and parameters where they can be counted, by the headers of all files; else what an index promises."""
    tensors = [tensor for file in sorted(folder.glob("*.safetensors")) for tensor in read_tensors(file)]
    if tensors:
        if stated.method in _PACKS and not any(_last(one) in _PACKED for one in tensors):
            # vLLM would serve whatever lies in memory
            problem = f"its {CONFIG} says {stated.method}, its files hold no weights in that format"
            raise BadModelFile(folder, problem, "download it again")
        count = sum(_held(one, stated.bits, tied=tied) for one in tensors) if _counted(stated) else 0
        return int(sum(one.size_bytes for one in tensors)), count
    if pickled := sum(file.stat().st_size for file in folder.glob("*.bin")):  # says nothing without being loaded
        return pickled, pickled * 8 // stated.bits
    return _promised(folder / INDEX), 0


def _counted(stated: StatedQuantization) -> bool:
    return stated.method in _COUNTED and stated.name not in ("nvfp4", "mxfp4")


def _held(tensor: SafeTensor, bits: int, *, tied: bool) -> int:
    """Weights in it; scales and the like are none."""
    last = _last(tensor)
    if last in _PACKED:
        return tensor.elements * 32 // bits
    counts = last in ("weight", "bias") and not (tied and tensor.name.startswith("lm_head"))
    return tensor.elements if counts else 0


def _last(tensor: SafeTensor) -> str:
    return tensor.name.rpartition(".")[2]


def _promised(index: Path) -> int:
    """Bytes of the weights that are still to be downloaded; 0: nobody says."""
    if not index.is_file():
        return 0
    return Fields(index, _json(index, MAX_INDEX_BYTES)).part("metadata").count("total_size")


def _generation(folder: Path) -> dict[str, object]:
    """How it is to be used; empty where it does not say."""
    path = folder / "generation_config.json"
    return _json(path, MAX_CONFIG_BYTES) if path.is_file() else {}


def _end_tokens(generation: dict[str, object], config: dict[str, object]) -> tuple[int, ...]:
    told = generation.get("eos_token_id")
    told = config.get("eos_token_id") if told is None else told
    return tuple(one for one in (told if isinstance(told, list) else [told]) if isinstance(one, int))


def _json(path: Path, most: int) -> dict[str, object]:
    try:
        if path.stat().st_size > most:
            raise BadModelFile(path, f"has more than {most >> 20} MiB", "is this the right file?")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadModelFile(path, f"cannot be read ({error.strerror or error})", "check the path") from None
    except json.JSONDecodeError as error:
        raise BadModelFile(path, f"not valid JSON: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise BadModelFile(path, "not valid JSON: it is no text, or nested too deep") from None
    if not isinstance(found, dict):
        raise BadModelFile(path, "holds no JSON object")
    return found
