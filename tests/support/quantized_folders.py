"""Small models in the formats vLLM reads, from one in full precision: plain rounding, packed as each format has it.

Round to nearest, without calibration: enough to show that a format is read as it is meant. Layouts: GPTQ as AutoGPTQ
writes it (version 1, whose zero points are stored less one), compressed-tensors as its ``pack-quantized`` and
``int-quantized`` compressors do.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

GROUP = 64
Arrays = dict[str, NDArray[Any]]


def rounded(weight: NDArray[np.float32], levels: int, group: int) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Symmetric codes in -levels-1..levels, and the scale of each group of inputs."""
    outputs, inputs = weight.shape
    grouped = weight.reshape(outputs, inputs // group, group)
    scales = np.maximum(np.abs(grouped).max(axis=2) / levels, 1e-6).astype(np.float16)
    codes = np.clip(np.round(grouped / scales.astype(np.float32)[..., None]), -levels - 1, levels)
    return codes.reshape(outputs, inputs).astype(np.int32), scales


def words(nibbles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Eight neighbours of the last axis in one word, the first lowest."""
    eights = nibbles.reshape(*nibbles.shape[:-1], -1, 8).astype(np.uint32)
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    return np.bitwise_or.reduce(eights << shifts, axis=-1).astype(np.uint32).view(np.int32)


def gptq(weight: NDArray[np.float32]) -> Arrays:
    codes, scales = rounded(weight, 7, GROUP)
    zeros = np.full((scales.shape[1], scales.shape[0]), 7, dtype=np.int32)
    return {
        "qweight": np.ascontiguousarray(words(codes + 8).reshape(weight.shape[0], -1).T),
        "qzeros": words(zeros),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": (np.arange(weight.shape[1]) // GROUP).astype(np.int32),
    }


def w4a16(weight: NDArray[np.float32]) -> Arrays:
    codes, scales = rounded(weight, 7, GROUP)
    return {
        "weight_packed": words(codes + 8),
        "weight_scale": scales,
        "weight_shape": np.array(weight.shape, dtype=np.int64),
    }


def w8a8(weight: NDArray[np.float32]) -> Arrays:
    codes, scales = rounded(weight, 127, weight.shape[1])
    return {"weight": codes.astype(np.int8), "weight_scale": scales}


def _compressed(layout: str, bits: int, weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    scheme = {"num_bits": bits, "type": "int", "symmetric": True} | weights
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme, "input_activations": inputs}},
    }


PER_TOKEN = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
FORMATS: dict[str, tuple[Callable[[NDArray[np.float32]], Arrays] | None, dict[str, Any] | None]] = {
    "fp16": (None, None),
    "fp8": (None, {"quant_method": "fp8", "activation_scheme": "dynamic"}),  # vLLM rounds the plain weights itself
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}),
    "w4a16": (w4a16, _compressed("pack-quantized", 4, {"strategy": "group", "group_size": GROUP}, None)),
    "w8a8": (w8a8, _compressed("int-quantized", 8, {"strategy": "channel"}, PER_TOKEN)),
}
"""By our name of the quantization: how a linear layer's weight is stored, and config.json's quantization_config."""


def make(kind: str, plain: Path, folder: Path) -> Path:
    """Write ``folder`` at this quantization, from the folder in full precision."""
    store, config = FORMATS[kind]
    shutil.copytree(plain, folder)
    said = json.loads((folder / "config.json").read_text())
    if config is not None:
        said["quantization_config"] = config
    (folder / "config.json").write_text(json.dumps(said))
    if store is not None:
        weights: Arrays = {}
        for name, value in load_file(str(plain / "model.safetensors")).items():
            layer, _, last = name.rpartition(".")
            if last == "weight" and layer.endswith("_proj"):
                weights |= {f"{layer}.{part}": array for part, array in store(value.astype(np.float32)).items()}
            else:
                weights[name] = value
        save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder
