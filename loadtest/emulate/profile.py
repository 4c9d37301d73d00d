"""A recorded GPU as a profile of the simulated engine, for simulations of whole fleets."""

import random

from loadtest.emulate.gpu import Gpu
from loadtest.emulate.recording import Recording

PROMPTS = (1, 32, 64, 128, 256, 512, 1024, 2048)
"""Tokens at which the prefill curve has its points, as far as a step takes them."""


def profile_of(recording: Recording, *, slots: int, chunk_tokens: int) -> str:
    """TOML for ``workers.engines.simulated.profile``: settled steps of every batch, prompts by their tokens a step."""
    gpu = Gpu(recording, random.Random(0))
    decode = [gpu.decode_s(batch, 0.0) for batch in range(1, slots + 1)]
    lengths = [*(one for one in PROMPTS if one < chunk_tokens), chunk_tokens]
    prefill = [gpu.prefill_s(one) for one in lengths]
    context_s = gpu.decode_s(1, 1.0) - gpu.decode_s(1, 0.0)
    lines = [
        'machine = "h100-sxm"',
        "[model]",
        f'quantization = "{recording.quantization}"',
        f"slots = {slots}",
        "[speed]",
        f"base_s = {decode[0]:.9f}",
        f"per_sequence_s = {(decode[-1] - decode[0]) / (slots - 1):.9f}",
        f"per_context_token_s = {context_s:.12f}",
        f"prefill_tokens_per_s = {chunk_tokens / prefill[-1]:.3f}",
        f"prefill_chunk_tokens = {chunk_tokens}",
        f"decode_curve_s = [{', '.join(f'{one:.9f}' for one in decode)}]",
        f"prefill_curve_tokens = {lengths}",
        f"prefill_curve_s = [{', '.join(f'{one:.9f}' for one in prefill)}]",
        "[behaviour]",
        "hidden = 0.0",
    ]
    return "\n".join(lines) + "\n"
