"""What this machine offers a model: settings that nobody chose, and whether it fits before it is loaded.

A refusal in one line is better than a machine that swaps or a kill.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from protos.contract.models.kv_cache import llama_cpp_memory
from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import Hardware
from workers.engines.base import LoadError, ModelSpec
from workers.engines.llama_cpp.options import (
    GPU_PLATFORM_BYTES,
    PLATFORM_BYTES,
    TRIED_FROM,
    Options,
    by_device,
    told_by,
    worth_threads,
)
from workers.engines.llama_cpp.spec import offloads_to_gpu
from workers.hardware.cpu import compute_cores
from workers.hardware.detect import this_machine
from workers.neighbours.place import meeting_place
from workers.neighbours.shares import cores_now

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Of one machine to one model. ``usable_bytes`` 0: not known, so nothing is refused."""

    hardware: Hardware
    usable_bytes: int
    cores: int  # that a processor computes on

    @classmethod
    def here(cls, options: Options) -> "Offer":
        """Of the machine it runs on. Blocks while it asks."""
        machine = this_machine(gpu=offloads_to_gpu() and options.gpu_layers != 0)
        usable = machine.usable_memory_bytes
        if usable and machine.kind == "nvidia" and options.gpu_layers > 0:
            usable += psutil.virtual_memory().available  # the other layers stay with the processor
        return cls(hardware=machine, usable_bytes=usable, cores=compute_cores(machine) or 1)

    def options(self, asked: Options, spec: ModelSpec, shape: ModelShape) -> Options:
        """With what nobody told chosen for this machine."""
        return by_device(asked, told_by(spec), shape, self.hardware, usable_bytes=self.usable_bytes, cores=self.cores)

    def check(self, path: Path, shape: ModelShape, options: Options) -> None:
        """Raise LoadError when weights and cache do not fit."""
        extra = PLATFORM_BYTES if self.hardware.kind == "cpu" else GPU_PLATFORM_BYTES
        refuse_if_too_large(path, shape, options, self.usable_bytes, extra)

    def tried(self, options: Options, told: Collection[str], models: int, step_s: Callable[[int], float]) -> Options:
        """With fewer threads where a few steps show that they are faster; what somebody told is not tried.

        Nor is a part of the cores, while neighbours compute on the others: who was faster would be chance.
        """
        own = options.share_cores or "threads" not in told
        alone = self.threads(options, models) == options.threads
        if self.hardware.kind != "cpu" or options.threads < TRIED_FROM or not own or not alone:
            return options
        return replace(options, threads=worth_threads(options.threads, step_s))

    def threads(self, options: Options, models: int) -> int:
        """How many compute now, of a worker that has so many models: a part of the cores where they are shared."""
        if not options.share_cores:
            return options.threads
        return max(1, cores_now(meeting_place(), self.cores, options.threads) // max(1, models))


def refuse_if_too_large(path: Path, shape: ModelShape, options: Options, usable: int, extra: int) -> None:
    """Pure. ``usable`` 0: not known, so nothing is refused."""
    taken = llama_cpp_memory(
        shape,
        options.context_tokens,
        sequences=options.slots,
        chunk=options.prefill_tokens,
        kv_format=options.kv_type,
    )
    needed = taken.total + extra
    if not usable or needed <= usable:
        return
    raise LoadError(
        f"{path}: needs {needed / GIB:.1f} GiB of memory ({shape.weights_bytes / GIB:.1f} for weights, "
        f"{taken.cache / GIB:.1f} for the KV cache of {options.slots} sequences of {options.context_tokens} tokens) "
        f"and {usable / GIB:.1f} GiB can be taken here; lower --context or --slots, or choose a smaller quantization"
    )
