"""Whether a model fits before it is loaded: a refusal in one line is better than a machine that swaps or a kill."""

from pathlib import Path

import psutil

from protos.contract.models.kv_cache import llama_cpp_memory
from protos.contract.models.model_shape import ModelShape
from workers.engines.base import LoadError
from workers.engines.llama_cpp.options import PLATFORM_BYTES, Options
from workers.engines.llama_cpp.spec import offloads_to_gpu
from workers.hardware.detect import this_machine

GIB = 2**30
GPU_PLATFORM_BYTES = 250 * 2**20
"""The same on a GPU."""


def check_memory(path: Path, shape: ModelShape, options: Options) -> None:
    """Raise LoadError when weights and cache do not fit what this machine says can be taken. Blocks while it asks."""
    gpu = offloads_to_gpu() and options.gpu_layers != 0
    machine = this_machine(gpu=gpu)
    usable = machine.usable_memory_bytes
    if usable and machine.kind == "nvidia" and options.gpu_layers > 0:
        usable += psutil.virtual_memory().available  # the other layers stay with the processor
    extra = PLATFORM_BYTES if machine.kind == "cpu" else GPU_PLATFORM_BYTES
    refuse_if_too_large(path, shape, options, usable, extra)


def refuse_if_too_large(path: Path, shape: ModelShape, options: Options, usable: int, extra: int) -> None:
    """Pure. ``usable`` 0: not known, so nothing is refused."""
    taken = llama_cpp_memory(shape, options.context_tokens, sequences=options.slots, chunk=options.prefill_tokens)
    needed = taken.total + extra
    if not usable or needed <= usable:
        return
    raise LoadError(
        f"{path}: needs {needed / GIB:.1f} GiB of memory ({shape.weights_bytes / GIB:.1f} for weights, "
        f"{taken.cache / GIB:.1f} for the KV cache of {options.slots} sequences of {options.context_tokens} tokens) "
        f"and {usable / GIB:.1f} GiB can be taken here; lower --context or --slots, or choose a smaller quantization"
    )
