"""What was recorded of one model on one engine on one GPU; see recordings/README.md."""

from dataclasses import dataclass
from importlib import resources
from statistics import median

import msgspec

from protos.contract.models.quantization import canonical
from protos.contract.worker import ModelInstance

SETTLED_AFTER = 2
"""Steps at a new shape that capture a graph or load a kernel; the following ones are what it takes."""

LEAST_RUN = 4


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One file of ``recordings``."""

    source: str
    engine: str
    engine_version: str
    model: str
    quantization: str
    weights_bytes: int
    parameters: int
    layers: int
    kv_heads: int
    head_dim: int
    bits_per_weight: float
    kv_bytes_per_token: int
    context_per_sequence: int
    decode: list[tuple[int, float]]
    prefill: list[tuple[int, int, float]]
    joins: list[tuple[float, float, float, float, float]]
    steps: list[tuple[int, int, int, int, float]]
    verify: list[tuple[int, int, float]] = []
    told: list[tuple[int, float]] = []

    @property
    def whole_numbers_of_sequences(self) -> bool:
        """llama.cpp multiplies up to eight rows with one kernel and more with another, where weights are quantized."""
        return self.engine == "llama.cpp" and canonical(self.quantization) not in ("fp16", "bf16")

    def instance(self, *, slots: int, context_tokens: int) -> ModelInstance:
        """The model as its worker tells it."""
        return ModelInstance(
            model=self.model,
            quantization=self.quantization,
            format="gguf" if self.engine == "llama.cpp" else self.quantization,
            bits_per_weight=self.bits_per_weight,
            weights_bytes=self.weights_bytes,
            parameters=self.parameters,
            active_parameters=self.parameters,
            layers=self.layers,
            kv_heads=self.kv_heads,
            head_dim_k=self.head_dim,
            head_dim_v=self.head_dim,
            context_tokens=context_tokens,
            slots=slots,
            kv_bytes_per_token=self.kv_bytes_per_token,
            kv_capacity_tokens=slots * context_tokens,
        )


def recordings() -> list[str]:
    """Names of all."""
    folder = resources.files("loadtest.emulate") / "recordings"
    return sorted(one.name.removesuffix(".json") for one in folder.iterdir() if one.name.endswith(".json"))


def read_recording(name: str) -> Recording:
    """One by its name. Raises OSError, msgspec.DecodeError."""
    file = resources.files("loadtest.emulate") / "recordings" / f"{name}.json"
    return msgspec.json.decode(file.read_bytes(), type=Recording)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """How recorded steps lie around the settled one of their shape. ``first``: factors of the first steps at a new
    shape; ``later``: those of all others, to be drawn from.
    """

    first: tuple[float, ...]
    later: tuple[float, ...]


def unsettled(recording: Recording) -> Unsettled:
    """From runs of steps with the same sequences and no prompt."""
    runs: list[list[float]] = [[]]
    before = 0
    for batch, _, prompt, _, seconds in recording.steps:
        if prompt or batch != before:
            runs.append([])
        before = batch
        if not prompt:
            runs[-1].append(seconds)
    firsts: list[list[float]] = [[] for _ in range(SETTLED_AFTER)]
    later: list[float] = []
    for run in runs:
        if len(run) < LEAST_RUN:
            continue
        settled = median(run[SETTLED_AFTER:])
        for place in range(SETTLED_AFTER):
            firsts[place].append(run[place] / settled)
        later += [one / settled for one in run[SETTLED_AFTER:]]
    return Unsettled(first=tuple(max(median(one), 1.0) for one in firsts if one), later=tuple(later))


def lone_prefills(recording: Recording) -> list[tuple[int, int, float]]:
    """Prompts that nobody decoded beside: tokens a step, tokens, seconds, over all steps of each."""
    found: list[tuple[int, int, float]] = []
    widest, tokens, taken = 0, 0, 0.0
    for batch, context, prompt, prefills, seconds in [*recording.steps, (0, 0, 0, 0, 0.0)]:
        goes_on = batch == 0 and prefills == 1 and tokens > 0 and context - prompt == tokens
        if tokens and not goes_on:
            found.append((widest, tokens, taken))
            widest, tokens, taken = 0, 0, 0.0
        if batch == 0 and prefills == 1 and prompt and (goes_on or context - prompt <= 1):
            widest, tokens, taken = max(widest, prompt), tokens + prompt, taken + seconds
    return found
