"""A simulated profile of a machine that was measured: the join benchmark's figures as a file ``read_profile`` takes.

What the benchmark saw goes into ``[speed]`` and takes the place of everything derived; ``[hardware]`` says whose
figures these are. Nothing is hidden and nothing perturbed: the simulated engine is as good as the measurement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.benchmark.speed_curves import decode_curve_s, expected_step_s, prefill_curve
from workers.engines.simulated.parameters import GIB

MIN_S = 1e-6
"""A profile's times are above zero."""

MIN_STEPS = 3
"""A spread is taken from at least so many steps, or windows."""

WINDOW_S = 1.0


def profile_toml(hardware: Hardware, engine: str, loaded: ModelInstance, speed: MeasuredSpeed) -> str:
    """The text of a profile. Raises ValueError when the speed was not measured with its samples."""
    if not speed.samples or speed.prefill_tokens_per_s <= 0:
        raise ValueError(f"{loaded.model}: the join benchmark kept no samples of prefill; measure it again")
    flops = 2.0 * loaded.parameters / 1e12
    alone_s = speed.step_s(1, 64)
    curve = ", ".join(f"{one:.7f}" for one in decode_curve_s(speed, loaded.slots))
    prefill = prefill_curve(speed, loaded.slots)
    attention = [f"prefill_attention = {prefill.attention:.9f}"] if prefill.attention else []
    spread = scatter(speed, loaded.slots)
    chunk = max(one.prefill_tokens for one in speed.samples)
    alone = max((one.prefill_tokens for one in speed.samples if one.prefills == 1), default=chunk)
    lines = [
        "[hardware]",
        f'name = "{hardware.name}"',
        f'engine = "{engine}"',
        f"memory_gib = {hardware.memory_bytes / GIB:.3f}",
        f"usable_gib = {hardware.usable_memory_bytes / GIB:.3f}",
        f"bandwidth_gb_s = {speed.effective_bandwidth_bytes_per_s / 1e9:.4f}",
        "efficiency = 1.0",
        "step_base_ms = 0.0",
        f"prefill_tflops = {flops * speed.prefill_tokens_per_s:.6f}",
        f"decode_tflops = {flops / max(speed.per_sequence_s, alone_s / 1e3):.6f}",
        "[model]",
        f"parameters = {loaded.parameters}",
        f"layers = {loaded.layers}",
        f"kv_heads = {loaded.kv_heads}",
        f"head_dim = {loaded.head_dim_k}",
        f"hidden = {loaded.kv_heads * loaded.head_dim_k}",
        f'quantization = "{loaded.quantization}"',
        f"context_tokens = {loaded.context_tokens}",
        f"slots = {loaded.slots}",
        "[speed]",
        f"base_s = {speed.base_s:.9f}",
        f"per_sequence_s = {speed.per_sequence_s:.9f}",
        f"per_context_token_s = {speed.per_context_token_s:.12f}",
        f"prefill_tokens_per_s = {speed.prefill_tokens_per_s:.6f}",
        f"prefill_base_s = {speed.prefill_base_s:.9f}",
        *attention,
        f"kv_capacity_tokens = {loaded.kv_capacity_tokens}",
        f"prefill_chunk_tokens = {chunk}  # the most that any step took",
        f"sequence_chunk_tokens = {alone}  # and the most of one sequence",
        f"decode_curve_s = [{curve}]",
        f"prefill_curve_tokens = [{', '.join(f'{tokens:.2f}' for tokens, _ in prefill.points)}]",
        f"prefill_curve_s = [{', '.join(f'{max(seconds, MIN_S):.7f}' for _, seconds in prefill.points)}]",
        "[behaviour]",
        "hidden = 0.0",
        f"noise = {spread.noise:.4f}",
        f"drift = {spread.drift:.4f}",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Relative standard deviations: of single steps, and of the machine's speed from one second to another."""

    noise: float = 0.0
    drift: float = 0.0


def scatter(speed: MeasuredSpeed, slots: int) -> Scatter:
    """How the benchmark's steps lie around what the curves say, in the order in which they were taken.

    Steps are cut into windows of a second. What windows differ by, beyond what single steps' noise would make them
    differ, is drift; the benchmark lasts some fifteen seconds, so slower changes stay unseen.
    """
    curve, prefill = decode_curve_s(speed, slots), prefill_curve(speed, slots)
    steps = [(one, expected_step_s(speed, curve, prefill, one)) for one in speed.samples if one.step_s > 0]
    windows: list[list[tuple[float, float]]] = [[]]
    for one, expected_s in steps:
        if expected_s <= 0:
            continue
        if sum(took for took, _ in windows[-1]) >= WINDOW_S:
            windows.append([])
        windows[-1].append((one.step_s, expected_s))
    full = [window for window in windows if len(window) >= MIN_STEPS]
    if not full:
        return Scatter()
    squares, count = 0.0, 0
    for window in full:
        level = _level(window)
        squares += sum((took / expected / level - 1.0) ** 2 for took, expected in window)
        count += len(window) - 1
    noise = math.sqrt(squares / count)
    if len(full) < MIN_STEPS:
        return Scatter(noise=noise)
    levels = [_level(window) for window in full]
    mean = sum(levels) / len(levels)
    spread = sum((level / mean - 1.0) ** 2 for level in levels) / (len(levels) - 1)
    by_noise = noise**2 * sum(_concentration(window) for window in full) / len(full)
    return Scatter(noise=noise, drift=math.sqrt(max(spread - by_noise, 0.0)))


def _level(window: Sequence[tuple[float, float]]) -> float:
    return sum(took for took, _ in window) / sum(expected for _, expected in window)


def _concentration(window: Sequence[tuple[float, float]]) -> float:
    """1 / n for n steps of one length; more when a few long ones make up the window."""
    return sum(expected**2 for _, expected in window) / sum(expected for _, expected in window) ** 2
