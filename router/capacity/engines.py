"""The engines that run model files, as planning sees them: what each reads, where it runs, what memory it takes.

Nothing else in the router compares engines by name. A new engine is a class here and a line of ``ENGINES``. The
constants are FACTS.md's ("Overheads"); formulas are DESIGN.md's ("Capacity").
"""

from abc import ABC, abstractmethod

from protos.contract.models.kv_cache import (
    LLAMA_CPP_LAYOUT,
    VLLM_LAYOUT,
    KvLayout,
    buffers_bytes,
    chunk_tokens,
    layer_numbers,
)
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import FileKind, Format
from router.capacity.devices import devices_of
from router.capacity.machines import GIB, Machine

MIB = 2**20


class Engine(ABC):
    """One engine's traits. ``name`` is what its workers report in their profile."""

    name: str
    reads: FileKind
    splits_layers: bool
    """Every layer lies on all devices, which read together; else whole layers lie on one each and take turns."""
    offloads: bool
    """Layers that do not fit the accelerator may stay in the host's memory."""
    host_bytes: int
    """What it takes of the host's memory beside such layers, or beside everything where it computes on a processor."""
    layout: KvLayout
    """How it lays out the KV cache."""
    serves_many: bool
    """Made for a batch of many; what decides on throughput looks at such engines alone."""

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def runs(self, fmt: Format) -> bool:
        """Whether it reads files that hold this format."""
        return self.reads in fmt.files

    def suits(self, machine: Machine) -> bool:
        """Whether one would choose it there, where another engine runs the same format."""
        del machine
        return True

    def not_served(self, shape: ModelShape, fmt: Format, machine: Machine) -> str:
        """Why it cannot run ``fmt`` here at all; empty: it can."""
        del shape, machine
        return "" if self.runs(fmt) else f"{self} does not run {fmt.name}"

    @abstractmethod
    def usable_bytes(self, machine: Machine) -> float:
        """Bytes of all devices that it may fill, its own overhead included."""

    @abstractmethod
    def overhead_bytes(self, shape: ModelShape, machine: Machine) -> float:
        """Contexts, graphs and margins on all devices."""

    @abstractmethod
    def buffers_bytes(self, shape: ModelShape, context_tokens: int, batch: int, machine: Machine) -> float:
        """Activations and logits of one step of ``batch`` sequences that may have ``context_tokens`` each."""


class LlamaCpp(Engine):
    """GGUF, on everything. Figures: gguf-parser-go."""

    name = "llama.cpp"
    reads = FileKind.GGUF
    splits_layers = False
    offloads = True
    host_bytes = 150 * MIB
    layout = LLAMA_CPP_LAYOUT
    serves_many = False

    DEVICE_BYTES = (250 + 1024) * MIB
    """Per GPU: platform (gguf-parser-go) and the margin of llama.cpp's ``--fit``."""
    METAL_BYTES = 512 * MIB
    """Ollama's allowance on Metal; the working set leaves the system its part already."""

    def usable_bytes(self, machine: Machine) -> float:
        """What the machine says can be taken."""
        return float(machine.hardware.usable_memory_bytes)

    def overhead_bytes(self, shape: ModelShape, machine: Machine) -> float:
        """By where it computes."""
        del shape
        if machine.accelerated:
            return float(machine.devices * self.DEVICE_BYTES)
        return float(self.METAL_BYTES if machine.hardware.kind == "apple" else self.host_bytes)

    def buffers_bytes(self, shape: ModelShape, context_tokens: int, batch: int, machine: Machine) -> float:
        """As the worker reckons them before it loads."""
        chunk = chunk_tokens(machine.hardware.kind)
        return buffers_bytes(shape, context_tokens, sequences=batch, chunk=chunk)


class Vllm(Engine):
    """Hugging Face folders, on GPUs."""

    name = "vllm"
    reads = FileKind.SAFETENSORS
    splits_layers = True
    offloads = False
    host_bytes = 0
    layout = VLLM_LAYOUT
    serves_many = True

    UTILIZATION = 0.9
    GRAPH_BYTES = (1 * GIB, 3 * GIB)
    """CUDA graphs, per device: from the first for a model of no depth to the second at 80 layers."""
    BATCHED_TOKENS = (2048, 8192)
    LARGE_DEVICE_BYTES = 70 * GIB
    """It prefills 8192 tokens a step on devices of 70 GiB or more, 2048 below (its own defaults for serving)."""
    ON_AMD = frozenset({"fp32", "fp16", "bf16", "fp8"})
    NOT_ON_PROCESSORS = frozenset({"fp8", "mxfp4", "nf4"})
    """vLLM's table of supported hardware (docs.vllm.ai, features/quantization)."""

    def suits(self, machine: Machine) -> bool:
        """On NVIDIA's GPUs, and on AMD's with memory of their own."""
        return machine.discrete or machine.hardware.kind == "nvidia"

    def not_served(self, shape: ModelShape, fmt: Format, machine: Machine) -> str:
        """By kernels, and by heads that must divide among the devices."""
        kind = machine.hardware.kind
        if not self.runs(fmt):
            return f"{self} does not run {fmt.name}"
        if kind == "apple":
            return f"{self} does not run on Macs' GPUs"
        if kind == "amd" and fmt.name not in self.ON_AMD:
            return f"{self} has no {fmt.name} kernels for AMD"
        if kind == "cpu" and fmt.name in self.NOT_ON_PROCESSORS:
            return f"{self} has no {fmt.name} kernels for processors"
        if shape.heads % machine.devices:
            return f"its {shape.heads} attention heads do not divide among {machine.devices} devices"
        return ""

    def usable_bytes(self, machine: Machine) -> float:
        """All of it: what others took is counted with the overhead. Of unlike cards as much of each as the smallest
        has: every layer lies on all of them in equal parts.
        """
        kinds = devices_of(machine.hardware)
        if len(kinds) > 1:
            return machine.devices * min(one.memory_bytes for one in kinds)
        return float(machine.hardware.memory_bytes or machine.hardware.usable_memory_bytes)

    def overhead_bytes(self, shape: ModelShape, machine: Machine) -> float:
        """The share it leaves alone, or its graphs, or what others took: whichever is most."""
        total = self.usable_bytes(machine)
        taken = max(0.0, total - machine.hardware.usable_memory_bytes)  # by others
        least, most = self.GRAPH_BYTES
        if not machine.accelerated:
            return max(taken, machine.devices * float(least))
        graphs = machine.devices * (least + (most - least) * min(1.0, shape.layers / 80))
        return max(taken, (1 - self.UTILIZATION) * total, graphs)

    def buffers_bytes(self, shape: ModelShape, context_tokens: int, batch: int, machine: Machine) -> float:
        """One step's tokens at 16 bits, and the logits of every sequence."""
        del context_tokens
        each = machine.hardware.memory_bytes / machine.devices
        tokens = max(self.BATCHED_TOKENS[each >= self.LARGE_DEVICE_BYTES], batch)
        return 2.0 * tokens * layer_numbers(shape) + 4.0 * batch * shape.vocabulary


VLLM = Vllm()
LLAMA_CPP = LlamaCpp()

ENGINES: dict[str, Engine] = {one.name: one for one in (VLLM, LLAMA_CPP)}
"""By name, the first choice first. Engines that are not here serve models that are not files of ours to choose."""


def engine_for(fmt: Format, machine: Machine) -> Engine | None:
    """The engine one would run ``fmt`` with here; None: none does."""
    return next((one for one in ENGINES.values() if one.suits(machine) and one.runs(fmt)), None)
