"""A join benchmark on a GPU that was recorded, and how far what it finds lies from what was recorded."""

import random
from dataclasses import dataclass
from statistics import median

from loadtest.emulate.engine import EmulatedEngine, VirtualClock
from loadtest.emulate.gpu import Gpu
from loadtest.emulate.recording import Recording
from protos.contract.worker import Hardware, Speed
from workers.benchmark.join_benchmark import JoinBenchmark
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.benchmark.plan import Effort
from workers.engines.base import ModelSpec
from workers.engines.step_reader import StepReader

H100 = Hardware(
    kind="nvidia", name="NVIDIA H100 80GB HBM3", memory_bytes=85_520_809_984, cores=132, compute_capability="9.0",
    details={"form_factor": "sxm", "driver": "580.159.04", "cuda": "13.0", "power_limit_w": "700"},
)  # fmt: skip
"""The machine of the recordings, as its worker tells it."""

SLOTS = 64
CHUNK_TOKENS = {"llama.cpp": 512, "vllm": 8192}
"""Prompt tokens a step."""

CONTEXT_TOKENS = 8192


async def join(
    recording: Recording, *, effort: Effort = Effort.FULL, seed: int = 0, chunk_tokens: int = 0, slots: int = SLOTS
) -> tuple[MeasuredSpeed, float]:
    """What the join benchmark makes of it, and the virtual seconds it took. Raises RuntimeError where it fails."""
    clock = VirtualClock()
    gpu = Gpu(recording, random.Random(seed))
    engine = EmulatedEngine(gpu, clock, chunk_tokens=chunk_tokens or chunk_of(recording))
    failures: list[str] = []
    reader = StepReader(engine, failures.append, clock)
    reader.start()
    try:
        spec = ModelSpec(name=recording.model, path=recording.model, slots=slots, context_tokens=CONTEXT_TOKENS)
        loaded = await engine.load(spec, lambda *_: None)
        started = clock.now
        speed = await JoinBenchmark(H100, effort, None, clock=clock)(engine, reader, loaded, spec)
    finally:
        await reader.stop()
        await engine.close()
    if speed is None or failures:
        raise RuntimeError(f"{recording.model}: the join benchmark gave nothing ({failures})")
    return speed, clock.now - started


def chunk_of(recording: Recording) -> int:
    """Prompt tokens a step: of what was recorded no further than it reaches."""
    return CHUNK_TOKENS[recording.engine] if recording.prefill else max(step[2] for step in recording.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Relative distances: of decode steps by batch, of prompts by their tokens."""

    decode: dict[int, float]
    prefill: dict[int, float]

    @property
    def decode_median(self) -> float:
        """Over all batches."""
        return median(self.decode.values())

    @property
    def decode_worst(self) -> float:
        """Of all batches."""
        return max(self.decode.values())

    @property
    def prefill_worst(self) -> float:
        """Of all prompts."""
        return max(self.prefill.values())


def errors(recording: Recording, speed: Speed, chunk_tokens: int = 0) -> Errors:
    """Against the recorded decode table, and prompts as they are prefilled, chunk by chunk, without any noise."""
    gpu = Gpu(recording, random.Random(0))
    chunk = chunk_tokens or chunk_of(recording)
    context = recording.context_per_sequence
    decode = {batch: abs(speed.step_s(batch, batch * context) / seconds - 1.0) for batch, seconds in recording.decode}
    lengths = [tokens for _, tokens, _ in recording.prefill] or [64, 128, 313]
    prefill = {tokens: abs(speed.prefill_s(tokens) / gpu.prompt_s(tokens, chunk) - 1.0) for tokens in lengths}
    return Errors(decode=decode, prefill=prefill)
