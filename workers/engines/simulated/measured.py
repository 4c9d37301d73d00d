"""A simulated profile of a machine that was measured: the join benchmark's figures as a file ``read_profile`` takes.

What the benchmark saw goes into ``[speed]`` and takes the place of everything derived; ``[hardware]`` says whose
figures these are. Nothing is hidden and nothing perturbed: the simulated engine is as good as the measurement.
"""

import math
from collections import defaultdict

from workers.engines.base import LoadedModel
from workers.engines.simulated.parameters import GIB
from workers.facts import Hardware, Speed
from workers.speed_curves import decode_curve_s, decoding_s, prefill_curve

LEAST_S = 1e-6
"""A profile's times are above zero."""

FEWEST_STEPS = 3
"""A spread is taken from batches seen in at least so many steps."""


def profile_toml(hardware: Hardware, engine: str, loaded: LoadedModel, speed: Speed) -> str:
    """The text of a profile. Raises ValueError when the speed was not measured with its samples."""
    if not speed.samples or speed.prefill_tokens_per_s <= 0:
        raise ValueError(f"{loaded.name}: the join benchmark kept no samples of prefill; measure it again")
    flops = 2.0 * loaded.parameters / 1e12
    alone_s = speed.step_s(1, 64)
    curve = ", ".join(f"{one:.7f}" for one in decode_curve_s(speed, loaded.slots))
    prefill = prefill_curve(speed, loaded.slots)
    chunk = max(one.prefill_tokens for one in speed.samples)
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
        f"kv_capacity_tokens = {loaded.kv_capacity_tokens}",
        f"prefill_chunk_tokens = {chunk}  # the most that any step took",
        f"decode_curve_s = [{curve}]",
        f"prefill_curve_tokens = [{', '.join(f'{tokens:.2f}' for tokens, _ in prefill)}]",
        f"prefill_curve_s = [{', '.join(f'{max(seconds, LEAST_S):.7f}' for _, seconds in prefill)}]",
        "[behaviour]",
        "hidden = 0.0",
        f"noise = {step_noise(speed, loaded.slots):.4f}",
    ]
    return "\n".join(lines) + "\n"


def step_noise(speed: Speed, slots: int) -> float:
    """Relative standard deviation of decode steps around what batch and context explain, batch by batch."""
    curve = decode_curve_s(speed, slots)
    by_batch: dict[int, list[float]] = defaultdict(list)
    for one in speed.samples:
        expected_s = decoding_s(speed, curve, one.batch, one.context_tokens)
        if one.prefill_tokens == 0 and one.batch > 0 and expected_s > 0:
            by_batch[one.batch].append(one.step_s / expected_s)
    squares, count = 0.0, 0
    for ratios in by_batch.values():
        if len(ratios) >= FEWEST_STEPS:
            mean = sum(ratios) / len(ratios)
            squares += sum((one / mean - 1.0) ** 2 for one in ratios)
            count += len(ratios) - 1
    return math.sqrt(squares / count) if count else 0.0
