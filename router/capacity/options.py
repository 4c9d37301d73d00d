"""Every way to run a model on a machine, each with its memory, its speed and its quality."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from protos.contract.models.instance import instance_of as shape_instance
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quality import loss
from protos.contract.models.quantization import BY_NAME, Format
from protos.contract.worker import ModelInstance, Speed
from router.capacity.engines import Engine, engine_for
from router.capacity.fit import Fit, FitResult, Plan, fit, kv_bytes, weights_bytes
from router.capacity.machines import Machine
from router.capacity.speed import (
    UNKNOWN_BANDWIDTH_BYTES_PER_S,
    Basis,
    bytes_read,
    how_sure,
    predict_speed,
    reached_bandwidth,
)

USUAL: tuple[str, ...] = (
    "fp16", "fp8", "gptq-int8", "awq", "gptq", "nf4", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k",
)  # fmt: skip
"""What is published of nearly every model."""

HOST_LINK_BYTES_PER_S = 25e9
"""What PCIe 4.0 x16 carries in practice: prefill copies offloaded layers to the GPU, once per batch of 512 tokens."""
PREFILL_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way. Speeds are predicted, at half the plan's context held by each sequence; 0 where it does not run."""

    format: Format
    engine: Engine
    fit: Fit
    tokens_per_s: float  # one sequence alone
    batch_tokens_per_s: float  # all sequences of the plan's batch together
    prefill_tokens_per_s: float
    loss: float  # relative perplexity
    basis: Basis  # what the speeds rest on


def options(
    shape: ModelShape, machine: Machine, plan: Plan, formats: Iterable[str] = (), *, engine: Engine | None = None
) -> tuple[Option, ...]:
    """Best quality first. ``formats``: canonical names; none: the usual ones and the file's own.

    ``engine``: only that one; else each format's best engine for this machine.
    """
    names = tuple(formats) or tuple(dict.fromkeys((*filter(None, [shape.quantization]), *USUAL)))
    found = []
    for name in names:
        fmt = BY_NAME[name]
        chosen = engine or engine_for(fmt, machine)
        if chosen is not None:
            found.append(option(shape, fmt, plan, chosen, machine))
    return tuple(sorted(found, key=lambda one: (one.loss, -one.format.bits_per_weight)))


def option(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine) -> Option:
    """One way to run it."""
    fitted = fit(shape, fmt, plan, engine, machine)
    quality_loss = loss(shape.parameters, fmt.name)
    basis = how_sure(machine.hardware, instance_of(shape, fmt, plan, engine))
    if not fitted.runs:
        return Option(
            format=fmt,
            engine=engine,
            fit=fitted,
            tokens_per_s=0.0,
            batch_tokens_per_s=0.0,
            prefill_tokens_per_s=0.0,
            loss=quality_loss,
            basis=basis,
        )
    speed = predicted(shape, fmt, plan, engine, machine, offloaded=fitted.offloaded)
    held = plan.context_tokens / 2
    return Option(
        format=fmt,
        engine=engine,
        fit=fitted,
        tokens_per_s=1.0 / speed.step_s(1, held),
        batch_tokens_per_s=plan.batch / speed.step_s(plan.batch, plan.batch * held),
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        loss=quality_loss,
        basis=basis,
    )


def predicted(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine, *, offloaded: float = 0.0
) -> Speed:
    """Parameters of the cost model. Offloaded layers are read at the host's bandwidth, in turn with the others."""
    instance = instance_of(shape, fmt, plan, engine)
    speed = predict_speed(machine.hardware, instance)
    if not offloaded:
        return speed
    moved = bytes_read(instance) * offloaded
    slower_s = moved / UNKNOWN_BANDWIDTH_BYTES_PER_S - moved / reached_bandwidth(machine.hardware, instance)
    slower_s = max(0.0, slower_s)
    token_s = 1 / speed.prefill_tokens_per_s
    token_s += weights_bytes(shape, fmt) * offloaded / HOST_LINK_BYTES_PER_S / PREFILL_BATCH
    return replace(
        speed,
        base_s=speed.base_s + slower_s,
        prefill_tokens_per_s=1 / token_s,
        decode_curve=tuple(replace(point, seconds=point.seconds + slower_s) for point in speed.decode_curve),
    )


def instance_of(shape: ModelShape, fmt: Format, plan: Plan, engine: Engine) -> ModelInstance:
    """The model as a worker would report it once loaded, with the cache of one token averaged over the context."""
    stored = replace(shape, weights_bytes=round(weights_bytes(shape, fmt)), quantization=fmt.name)
    each = kv_bytes(shape, replace(plan, batch=1), engine.layout) / max(1, plan.context_tokens)
    return replace(
        shape_instance(stored, model=shape.name, file_format=engine.reads),
        bits_per_weight=fmt.bits_per_weight,
        context_tokens=plan.context_tokens,
        slots=plan.batch,
        kv_bytes_per_token=round(each),
    )


def runnable(found: Iterable[Option]) -> tuple[Option, ...]:
    """Those that fit without the host's help."""
    return tuple(one for one in found if one.fit.result is FitResult.FITS)
