"""Does it fit: the memory of model x format x context x batch x engine x machine, taken apart.

The formulas are DESIGN.md's ("Capacity"), the constants FACTS.md's ("KV cache", "Overheads"). What is needed never
falls when the context, the batch or the bits grow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from protos.contract.models.kv_cache import KvLayout, kv_cache_bytes
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import Format
from router.capacity.engines import Engine
from router.capacity.machines import GIB, Machine

HOST_SHARE = 0.9
"""Of the memory beside the accelerators that offloaded layers may take."""
MAX_CONTEXT = 4_194_304
MAX_BATCH = 4096


class FitResult(StrEnum):
    """How it ends."""

    FITS = "fits"
    OFFLOADS = "offloads"  # some layers stay in the host's memory
    TOO_LARGE = "too large"
    NOT_SERVED = "not served"  # the engine does not run this format, or not on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of it. ``context_tokens`` is of one sequence, ``batch`` how many run together."""

    context_tokens: int = 8192
    batch: int = 1
    kv_format: str = "f16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Bytes, over all devices together."""

    weights_bytes: float
    kv_bytes: float
    buffers_bytes: float  # activations, logits
    overhead_bytes: float  # contexts, CUDA graphs, margins
    usable_bytes: float

    @property
    def needed_bytes(self) -> float:
        """Everything."""
        return self.weights_bytes + self.kv_bytes + self.buffers_bytes + self.overhead_bytes

    @property
    def left_bytes(self) -> float:
        """Negative: that much is missing."""
        return self.usable_bytes - self.needed_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The result with its reason. ``offloaded``: share of the layers held by the host, 0 to 1."""

    result: FitResult
    memory: Breakdown
    reason: str
    offloaded: float = 0.0
    longest_context: int = 0  # at the plan's batch, within what the model was trained for
    largest_batch: int = 0  # at the plan's context

    @property
    def runs(self) -> bool:
        """Fits, with or without the host's help."""
        return self.result in (FitResult.FITS, FitResult.OFFLOADS)


def weights_bytes(shape: ModelShape, fmt: Format) -> float:
    """Exact where the shape was read from a file of this format, else parameters times bits."""
    if shape.weights_bytes and shape.quantization == fmt.name:
        return float(shape.weights_bytes)
    kept = shape.embedding_parameters if fmt.keeps_embeddings else 0
    return (shape.parameters - kept) * fmt.bits_per_weight / 8 + 2.0 * kept


def kv_bytes(shape: ModelShape, plan: Plan, layout: KvLayout | None = None) -> float:
    """Keys and values of ``batch`` sequences of ``context_tokens`` each, as an engine lays them out."""
    return kv_cache_bytes(shape, plan.context_tokens, sequences=plan.batch, kv_format=plan.kv_format, layout=layout)


def memory(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine) -> Breakdown:
    """What goes where. Raises nothing: whether it fits is ``fit``'s to say."""
    held = kv_bytes(shape, plan, engine.layout)
    if engine.splits_layers and machine.devices > shape.kv_heads > 0:
        held *= machine.devices / shape.kv_heads  # a head is not split: devices beyond hold copies
    return Breakdown(
        weights_bytes=weights_bytes(shape, fmt),
        kv_bytes=held,
        buffers_bytes=engine.buffers_bytes(shape, plan.context_tokens, plan.batch, machine),
        overhead_bytes=engine.overhead_bytes(shape, machine),
        usable_bytes=engine.usable_bytes(machine),
    )


def fit(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine) -> Fit:
    """The result for one way to run the model."""
    taken = memory(shape, fmt, plan, engine, machine)
    why_not = engine.not_served(shape, fmt, machine)
    if why_not:
        return Fit(result=FitResult.NOT_SERVED, memory=taken, reason=why_not)
    if taken.left_bytes >= 0:
        return Fit(
            result=FitResult.FITS,
            memory=taken,
            reason=f"{taken.left_bytes / GIB:.1f} GiB left",
            longest_context=_longest_context(shape, fmt, plan, engine, machine),
            largest_batch=_largest_batch(shape, fmt, plan, engine, machine),
        )
    share = _offload(shape, taken, engine, machine) if engine.offloads and machine.discrete else 1.0
    if share < 1.0:
        on_host = round(share * shape.layers)
        return Fit(
            result=FitResult.OFFLOADS,
            memory=taken,
            reason=f"{on_host} of {shape.layers} layers stay in the host's memory",
            offloaded=share,
            longest_context=plan.context_tokens,
            largest_batch=plan.batch,
        )
    return Fit(result=FitResult.TOO_LARGE, memory=taken, reason=f"{-taken.left_bytes / GIB:.1f} GiB missing")


def _offload(shape: ModelShape, taken: Breakdown, engine: Engine, machine: Machine) -> float:
    """Share of the layers that goes to the host; 1: it does not fit even so. Layers take their KV cache along."""
    room = taken.usable_bytes - taken.overhead_bytes - taken.buffers_bytes
    movable = taken.weights_bytes + taken.kv_bytes
    on_device = int(shape.layers * max(0.0, room) / movable)
    share = 1.0 - on_device / shape.layers
    host_room = HOST_SHARE * machine.host_memory_bytes - engine.host_bytes
    return share if on_device > 0 and share * movable <= host_room else 1.0


def _longest_context(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine) -> int:
    most = shape.context_tokens or MAX_CONTEXT
    return _largest(plan.context_tokens, most, lambda n: _fits(shape, fmt, plan, engine, machine, context=n))


def _largest_batch(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine) -> int:
    return _largest(plan.batch, MAX_BATCH, lambda n: _fits(shape, fmt, plan, engine, machine, batch=n))


def _fits(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine, *, context: int = 0, batch: int = 0
) -> bool:
    asked = Plan(context_tokens=context or plan.context_tokens, batch=batch or plan.batch, kv_format=plan.kv_format)
    return memory(shape, fmt, asked, engine, machine).left_bytes >= 0


def _largest(known: int, most: int, works: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` that works; ``known`` does, and what is above one that does not, does not."""
    low, high = known, max(known, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if works(middle) else (low, middle - 1)
    return low
