"""What a simulated engine is made of: one machine, one model shape, one quantization, put together to step times.

DESIGN.md's formula: ``step = t0 + weight_bytes / (e * bandwidth) + b * c + C * kv_bytes / (e * bandwidth)``. Pure.
"""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from protos.contract.curve import Curve, CurvePoint
from protos.contract.models.kv_cache import kv_bytes_per_token
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import BY_NAME, unknown_format
from workers.speculation.rounds import Drafting, Rounds
from workers.speculation.verify_curve import VerifyCurve

GIB = 2.0**30

WHOLE_FILE_BITS = {"awq": 4.5, "gptq": 4.5}
"""Bits per weight over an 8B file, fp16 embeddings and head included, where a format's own figure leaves them out."""

THINNED = 0.005

REFERENCE_LAYERS = 32
"""Machines state t0 for a 32-layer model; it scales with layers (FACTS.md, decode speed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One kind of hardware with the engine on it. ``step_base_s``: t0 at 32 layers. Sources in profiles/*.toml."""

    name: str
    memory_bytes: float
    usable_bytes: float  # what an engine may fill with weights and KV cache
    bandwidth_bytes_per_s: float
    efficiency: float  # share of the bandwidth that decode reaches
    step_base_s: float
    prefill_flops: float  # effective, at 16 bit
    decode_flops: float  # effective, when many sequences decode together
    compute_share: dict[str, float] = field(default_factory=dict)  # of both, by quantization
    chunk_tokens: int = 512  # tokens per step: decode first, the rest prefill
    slots: int = 16
    load_bytes_per_s: float = 2e9
    engine: str = "llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParameters:
    """What the core runs on. Seconds and tokens."""

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    prefill_token_s: float
    prefill_attention: float = 0.0  # a prefilled token costs this share more per context token before it
    prefill_base_s: float = 0.0  # every sequence that prefills in a step costs this on top
    slots: int = 16
    chunk_tokens: int = 512
    kv_capacity_tokens: int = 65_536
    context_tokens: int = 8192
    prefill_chunk_tokens: int = 0  # prompt tokens a step beside the decode tokens; 0: what those leave of the chunk
    sequence_chunk_tokens: int = 0  # prompt tokens of one sequence a step; 0: as many as there is room for
    decode_curve_s: tuple[float, ...] = ()  # measured steps of 1, 2, … sequences, context apart; empty: the line
    prefill_curve: tuple[tuple[float, float], ...] = ()  # measured (tokens, seconds) of a prefill; empty: the line
    noise: float = 0.03  # relative standard deviation of one step
    drift: float = 0.0  # that of the speed over minutes
    drift_s: float = 5.0  # how long a slow spell lasts
    load_s: float = 1.0
    unload_s: float = 0.05
    drafting: Drafting | None = None  # a draft model proposes to it

    def rounds(self) -> Rounds | None:
        """Its rounds with a draft model. Verifying so many rows takes as long as decoding so many sequences that hold
        the same context; beyond a measured curve, as it goes on.
        """
        if self.drafting is None:
            return None
        curve = self.decode_curve_s
        beyond = VerifyCurve(list(enumerate(curve, 1))) if curve else None

        def step_s(rows: int, context_tokens: float) -> float:
            if beyond is None or rows <= len(curve):
                return self.decode_s(rows, context_tokens)
            return beyond.seconds(rows) + self.per_context_token_s * context_tokens

        return Rounds(self.drafting, step_s)

    def decode_s(self, batch: int, context_tokens: float) -> float:
        """One decode step of ``batch`` sequences that hold ``context_tokens`` together."""
        curve = self.decode_curve_s
        if 0 < batch <= len(curve):
            return curve[batch - 1] + self.per_context_token_s * context_tokens
        return self.base_s + self.per_sequence_s * batch + self.per_context_token_s * context_tokens

    def prefill_s(self, tokens: int, before: float) -> float:
        """Prefill of ``tokens`` of one sequence in one step, after ``before`` others of its own, decoding apart."""
        curve, stretch = self.prefill_curve, 1.0 + self.prefill_attention * before
        if not curve:
            return self.prefill_base_s + tokens * self.prefill_token_s * stretch
        at = bisect.bisect_left(curve, (tokens,))
        if at == 0:
            return curve[0][1] * stretch
        (left, left_s), (right, right_s) = curve[at - 1], curve[min(at, len(curve) - 1)]
        if at == len(curve):
            return (left_s + (tokens - left) * self.prefill_token_s) * stretch
        return (left_s + (tokens - left) / (right - left) * (right_s - left_s)) * stretch

    @property
    def decode_curve(self) -> Curve:
        """The decode curve as a worker tells it: the points that the others lie between."""
        return thinned(self.decode_curve_s)

    @property
    def prefill_points(self) -> Curve:
        """The prefill curve as a worker tells it."""
        points = {round(tokens): seconds for tokens, seconds in self.prefill_curve if tokens >= 1.0}
        return tuple(CurvePoint(at=at, seconds=seconds) for at, seconds in sorted(points.items()))

    def prefill_budget(self, batch: int) -> int:
        """Prompt tokens of a step in which ``batch`` sequences decode."""
        return self.prefill_chunk_tokens or max(self.chunk_tokens - batch, 1)


def thinned(seconds: Sequence[float]) -> Curve:
    """Few points of a curve over 1, 2, …: those left out lie within ``THINNED`` of the lines between those kept."""
    kept: list[int] = [0] if seconds else []
    while kept and kept[-1] < len(seconds) - 1:
        left, right = kept[-1], kept[-1] + 1
        while right + 1 < len(seconds) and _between(seconds, left, right + 1):
            right += 1
        kept.append(right)
    return tuple(CurvePoint(at=one + 1, seconds=seconds[one]) for one in kept)


def _between(seconds: Sequence[float], left: int, right: int) -> bool:
    slope = (seconds[right] - seconds[left]) / (right - left)
    return all(
        abs(seconds[left] + slope * (one - left) - seconds[one]) <= THINNED * seconds[one]
        for one in range(left + 1, right)
    )


class DoesNotFit(ValueError):
    """The weights leave no room for a KV cache on this machine; the message is one line."""


def weights_bytes(shape: ModelShape, quantization: str) -> float:
    """File size. Raises ValueError for a quantization without a known size."""
    known = BY_NAME.get(quantization)
    if known is None:
        raise ValueError(unknown_format(quantization))
    return shape.parameters * WHOLE_FILE_BITS.get(known.name, known.bits_per_weight) / 8.0


def combine(
    machine: Machine, shape: ModelShape, quantization: str, *, context_tokens: int = 0, slots: int = 0
) -> EngineParameters:
    """The declared parameters of this model at this quantization on this machine. Raises DoesNotFit, ValueError."""
    weights = weights_bytes(shape, quantization)
    free = machine.usable_bytes - weights
    token_bytes = kv_bytes_per_token(shape)
    capacity = int(free / token_bytes)
    if capacity < 512:
        raise DoesNotFit(
            f"{weights / GIB:.1f} GiB of weights ({quantization}) do not fit {machine.usable_bytes / GIB:.1f} GiB "
            f"usable of {machine.name} with room for a KV cache; choose a smaller quantization or machine"
        )
    reached = machine.efficiency * machine.bandwidth_bytes_per_s
    share = machine.compute_share.get(quantization, 1.0)
    flops = 2.0 * shape.parameters
    per_sequence_s = flops / (machine.decode_flops * share)
    # A single sequence computes while its weights are being read: its share is in the base already.
    alone_s = machine.step_base_s * shape.layers / REFERENCE_LAYERS + weights / reached
    return EngineParameters(
        base_s=max(alone_s - per_sequence_s, alone_s / 2.0),
        per_sequence_s=per_sequence_s,
        per_context_token_s=token_bytes / reached,
        prefill_token_s=flops / (machine.prefill_flops * share),
        # Attention adds 4 * layers * hidden operations per token and context token to the 2 * parameters of the rest.
        prefill_attention=4.0 * shape.layers * shape.hidden / flops,
        slots=slots or machine.slots,
        chunk_tokens=machine.chunk_tokens,
        kv_capacity_tokens=capacity,
        context_tokens=min(context_tokens or 32_768, capacity),
        load_s=weights / machine.load_bytes_per_s,
    )


def hidden(declared: EngineParameters, spread: float, rng: random.Random) -> EngineParameters:
    """The parameters a machine really has: each within ``spread`` (0.2: 20%) of what it declares."""

    def off() -> float:
        return rng.uniform(1.0 - spread, 1.0 + spread)

    true = replace(
        declared,
        base_s=declared.base_s * off(),
        per_sequence_s=declared.per_sequence_s * off(),
        per_context_token_s=declared.per_context_token_s * off(),
        prefill_token_s=declared.prefill_token_s * off(),
    )
    if not declared.decode_curve_s:
        return true
    factor, prefill = off(), off()
    return replace(
        true,
        decode_curve_s=tuple(one * factor for one in declared.decode_curve_s),
        prefill_curve=tuple((tokens, one * prefill) for tokens, one in declared.prefill_curve),
    )


def times(parameters: EngineParameters, factor: float) -> EngineParameters:
    """The same engine, ``factor`` times as slow in everything."""
    return replace(
        parameters,
        base_s=parameters.base_s * factor,
        per_sequence_s=parameters.per_sequence_s * factor,
        per_context_token_s=parameters.per_context_token_s * factor,
        prefill_token_s=parameters.prefill_token_s * factor,
        prefill_base_s=parameters.prefill_base_s * factor,
        decode_curve_s=tuple(one * factor for one in parameters.decode_curve_s),
        prefill_curve=tuple((tokens, one * factor) for tokens, one in parameters.prefill_curve),
    )
