"""Facts a worker reports about itself: machine, models, speed (the contract's Profile and ModelInstance)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from workers.engines.base import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine's accelerators, as its system reports them. Zero or empty: not known."""

    kind: str  # "apple", "nvidia", "amd", "cpu", "simulated"
    name: str
    count: int = 1
    memory_bytes: int = 0
    usable_memory_bytes: int = 0
    bandwidth_bytes_per_s: float = 0.0  # measured on this machine
    cores: int = 0
    compute_capability: str = ""
    interconnect: str = ""
    on_battery: bool = False
    low_power: bool = False
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One engine step as the join benchmark timed it."""

    batch: int
    context_tokens: int  # in all sequences together
    prefill_tokens: int  # prefilled in the same step; 0: pure decode
    step_s: float
    prefills: int = 0  # sequences those tokens belong to; 0: not told, counted as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Parameters of the cost model: ``step_s(b, C) = base_s + per_sequence_s * b + per_context_token_s * C``."""

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    prefill_tokens_per_s: float
    prefill_base_s: float = 0.0
    measured: bool = True
    effective_bandwidth_bytes_per_s: float = 0.0
    samples: tuple[StepSample, ...] = ()
    measured_at_unix_s: float = 0.0

    def step_s(self, batch: float, context_tokens: float) -> float:
        """Seconds of one decode step of ``batch`` sequences that hold ``context_tokens`` together."""
        return self.base_s + self.per_sequence_s * batch + self.per_context_token_s * context_tokens


class ModelState(StrEnum):
    """Where one model stands on this worker."""

    LOADING = "loading"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What the router is told about one model; ``loaded`` is known once the load succeeded."""

    model: str
    quantization: str
    state: ModelState
    loaded: LoadedModel | None = None
    speed: Speed | None = None
    error: str = ""  # why it failed: one line
    file: str = ""  # base name only
    perplexity_ratio: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Model and quantization."""
        return self.model, self.quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Who this worker is: what does not change while its process lives."""

    node: str
    hardware: Hardware
    engine: str
    engine_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    version: str = ""  # of Allsorts


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A router replica's name and the address of its session listener."""

    replica_id: str
    address: str  # host:port


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that the router thinks this machine should serve, with the speed it expects of it."""

    model: str
    quantization: str
    predicted_tokens_per_s: float
    predicted_prefill_tokens_per_s: float
    memory_bytes: float
    reason: str
