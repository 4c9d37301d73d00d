"""Facts about workers, as the workers report them."""

from dataclasses import dataclass, field
from enum import StrEnum

from router.domain.ids import WorkerId


class WorkerState(StrEnum):
    """Where a worker stands in its life; the transitions are in ``router.fleet.lifecycle``."""

    ENROLLED = "enrolled"
    LOADING = "loading"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    ASLEEP = "asleep"
    DRAINING = "draining"
    GONE = "gone"


class InstanceState(StrEnum):
    """Where one loaded model stands."""

    LOADING = "loading"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine's accelerators, as its system reports them. Zero or empty: not known."""

    kind: str  # "apple", "nvidia", "amd", "cpu", "simulated"
    name: str
    count: int = 1
    memory_bytes: int = 0
    usable_memory_bytes: int = 0
    bandwidth_bytes_per_s: float = 0.0  # measured
    cores: int = 0
    compute_capability: str = ""
    interconnect: str = ""
    on_battery: bool = False
    low_power: bool = False
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One engine step, as the join benchmark timed it."""

    batch: int
    context_tokens: int
    prefill_tokens: int
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Parameters of the cost model for one model on one engine on one machine.

    ``step_s(b, C) = base_s + per_sequence_s * b + per_context_token_s * C`` for b sequences that hold C
    context tokens together (DESIGN: t0 + weights/(e*bw), c, and kv_bytes/(e*bw)).
    """

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    prefill_tokens_per_s: float
    prefill_base_s: float = 0.0
    measured: bool = False
    samples: tuple[StepSample, ...] = ()

    def step_s(self, batch: float, context_tokens: float) -> float:
        """Seconds of one decode step of ``batch`` sequences that hold ``context_tokens`` together."""
        return self.base_s + self.per_sequence_s * batch + self.per_context_token_s * context_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine declares it can do. Declared, never guessed."""

    can_continue: bool = False
    can_score: bool = False
    can_embed: bool = False
    structured_output: bool = False
    logprobs: bool = False
    seed: bool = False
    can_load: bool = False
    publishes_cache: bool = False
    chat: bool = True
    exact_prompt_count: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInstance:
    """One model at one quantization, loaded on one worker."""

    model: str
    quantization: str  # canonical: "q8_0", "awq", "fp16"
    format: str = ""
    bits_per_weight: float = 0.0
    weights_bytes: int = 0
    parameters: int = 0
    active_parameters: int = 0
    layers: int = 0
    kv_heads: int = 0
    head_dim_k: int = 0
    head_dim_v: int = 0
    context_tokens: int = 0
    slots: int = 1
    kv_capacity_tokens: int = 0
    kv_bytes_per_token: int = 0
    block_tokens: int = 1
    tokenizer_fingerprint: str = ""
    chat_template_fingerprint: str = ""
    lineage: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
    speed: Speed | None = None
    perplexity_ratio: float = 0.0
    file: str = ""
    state: InstanceState = InstanceState.READY
    error: str = ""
    tokens_per_byte: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker was doing at ``observed_at`` (monotonic seconds of this router, on receipt)."""

    observed_at: float = 0.0
    running: int = 0
    waiting: int = 0
    prefill_tokens_pending: int = 0
    context_tokens: int = 0
    expected_remaining_tokens: int = 0
    kv_used: float = 0.0
    step_sequence: int = 0
    last_command: int = 0
    prefill_progress: int = 0
    tokens_per_s: float = 0.0
    last_step_s: float = 0.0
    last_step_batch: int = 0
    last_step_prefill_tokens: int = 0
    last_step_prefills: int = 0  # sequences those tokens belong to; 0: the engine does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProfile:
    """Who a worker is: what does not change while its process lives."""

    worker_id: WorkerId
    incarnation: str
    node: str
    hardware: Hardware
    engine: str
    engine_version: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""
    version: str = ""
    protocol_version: int = 1
