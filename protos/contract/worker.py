"""Facts about workers, as the workers report them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protos.contract.curve import Curve, line_at
from protos.contract.grammar import GrammarKind

STREAM_CONTEXT_TOKENS = 256
"""Held by the one stream whose speed is told, expected or measured, wherever it is told: a question and its answer."""


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
class Speed:
    """Parameters of the cost model for one model on one engine on one machine.

    ``step_s(b, C) = base_s + per_sequence_s * b + per_context_token_s * C`` for b sequences that hold C
    context tokens together (DESIGN: t0 + weights/(e*bw), c, and kv_bytes/(e*bw)).

    Where curves were measured they take the line's place: ``decode_curve`` has the seconds of a step by its sequences,
    context apart, ``prefill_curve`` those of one sequence's prefill by its tokens. The line stays as the nearest one,
    for a router that knows no curves. A straight line is the curve of a worker that sends none.
    """

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    prefill_tokens_per_s: float
    prefill_base_s: float = 0.0
    measured: bool = False
    decode_curve: Curve = ()
    prefill_curve: Curve = ()

    def decode_line(self, batch: float) -> tuple[float, float]:
        """Seconds whatever the batch, and for each sequence of it, from ``batch`` up to the next whole number."""
        return line_at(self.decode_curve, batch) if self.decode_curve else (self.base_s, self.per_sequence_s)

    def step_s(self, batch: float, context_tokens: float) -> float:
        """Seconds of one decode step of ``batch`` sequences that hold ``context_tokens`` together."""
        base_s, per_sequence_s = self.decode_line(batch)
        return base_s + per_sequence_s * batch + self.per_context_token_s * context_tokens

    def prefill_line(self, tokens: float) -> tuple[float, float]:
        """Seconds whatever the length, and for each token, where one sequence's prefill has ``tokens``.

        Shorter prompts than any that was measured lie between ``prefill_base_s`` and the first point; beyond the last
        point each token takes what ``prefill_tokens_per_s`` says.
        """
        curve = self.prefill_curve
        if not curve:
            return self.prefill_base_s, 1.0 / self.prefill_tokens_per_s
        if tokens < curve[0].at:
            base_s = self.prefill_fixed_s
            return base_s, (curve[0].seconds - base_s) / curve[0].at
        if tokens < curve[-1].at:
            return line_at(curve, tokens)
        token_s = 1.0 / self.prefill_tokens_per_s
        return curve[-1].seconds - curve[-1].at * token_s, token_s

    def prefill_s(self, tokens: float) -> float:
        """Seconds to prefill ``tokens`` of one sequence where nothing else runs."""
        base_s, token_s = self.prefill_line(tokens)
        return base_s + token_s * tokens

    def sequences_s(self, batch: float) -> float:
        """What ``batch`` sequences add to ``decode_fixed_s``."""
        if not self.decode_curve:
            return self.per_sequence_s * batch
        return max(self.step_s(batch, 0.0) - self.decode_fixed_s, 0.0)

    def tokens_s(self, prefill_tokens: float) -> float:
        """What so many tokens of one prompt add to ``prefill_fixed_s``."""
        if not self.prefill_curve:
            return 1.0 / self.prefill_tokens_per_s * prefill_tokens
        return max(self.prefill_s(prefill_tokens) - self.prefill_fixed_s, 0.0)

    @property
    def decode_fixed_s(self) -> float:
        """What a step takes however few its sequences are."""
        return min(self.base_s, *(one.seconds for one in self.decode_curve)) if self.decode_curve else self.base_s

    @property
    def prefill_fixed_s(self) -> float:
        """What a prefill takes however short it is."""
        return min(self.prefill_base_s, self.prefill_curve[0].seconds) if self.prefill_curve else self.prefill_base_s

    @property
    def stream_tokens_per_s(self) -> float:
        """Output tokens per second of one stream that holds STREAM_CONTEXT_TOKENS: the one figure that people are
        shown of a decode speed. 0: not known.
        """
        step_s = self.step_s(1, STREAM_CONTEXT_TOKENS)
        return 1.0 / step_s if step_s > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do with the loaded model. Declared, never guessed; the contract suite checks each claim."""

    can_continue: bool = False
    can_score: bool = False
    can_embed: bool = False
    logprobs: bool = False
    seed: bool = False
    can_load: bool = False
    publishes_cache: bool = False
    chat: bool = True
    exact_prompt_count: bool = True
    tools: bool = False  # offers tools to the model, and tells its calls from its text
    vision: bool = False  # takes images
    reasoning: bool = False  # tells what the model thinks from its answer
    prompt_logprobs: bool = False  # repeats the prompt, with log-probabilities where they are asked for
    embeds_only: bool = False  # has vectors and writes nothing
    takes_drafts: bool = False  # of a draft worker, and verifies them
    grammars: tuple[GrammarKind, ...] = ()  # that it keeps its output to


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """How a model is to be sampled where a request says nothing; None: its file does not say. ``top_k`` 0: off."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class InstanceState(StrEnum):
    """Where one model stands on its worker."""

    LOADING = "loading"
    BENCHMARKING = "benchmarking"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"
    FETCHING = "fetching"  # its files are on their way
    UNLOADING = "unloading"  # takes nothing new, finishes what runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInstance:
    """One model at one quantization on one worker. Sizes are known once it is loaded, or its file's header read."""

    model: str  # public name
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
    lineage: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
    speed: Speed | None = None
    perplexity_ratio: float = 0.0
    file: str = ""  # base name only
    state: InstanceState = InstanceState.READY
    error: str = ""  # why it failed: one line
    tokens_per_byte: float = 0.0
    output_format: str = ""  # how its own output marks thoughts and calls; where equal, one goes on for the other
    sampling: SamplingDefaults | None = None  # as its file says it should be sampled
    content: str = ""  # SHA-256 of its content (protos/contract/files); empty: not known (yet)
    ordered: str = ""  # the order of the router that had it loaded; empty: the machine's owner chose it
    speculates: str = ""  # without a draft worker: by "own text", the engine's own method, or "off: why"; empty: no

    @property
    def key(self) -> tuple[str, str]:
        """Model and quantization."""
        return self.model, self.quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker is doing; all zero again once nothing runs, counters apart.

    An engine fills in its figures, the session which command it saw last, the receiver when it came.
    """

    observed_at: float = 0.0  # monotonic seconds of the receiver, on receipt: the worker's own clock may be off
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
    price_s: float = 0.0  # seconds by which a request must be better off here, as this machine's owner asks
    draft_rounds: int = 0  # since start: a sequence's steps that verified proposed tokens
    draft_proposed: int = 0
    draft_accepted: int = 0
    last_step_prefills: int = 0  # sequences those belong to; 0: not told. For the worker itself


DRAFT_ROLE = "draft"
"""Of a worker that proposes tokens to others and serves no requests. Every other role serves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Who a worker says it is: what does not change while its process lives."""

    node: str
    hardware: Hardware
    engine: str
    engine_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    version: str = ""  # of Allsorts
    role: str = ""
    draft_address: str = ""  # host:port where a draft listens
    takes_models: bool = False  # a router may load and unload models here
    memory_limit_bytes: int = 0  # all its models together, by its owner; 0: what the hardware lets it

    @property
    def drafts(self) -> bool:
        """Whether it proposes tokens to other workers, and serves no requests."""
        return self.role == DRAFT_ROLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A router replica's name and the address of its session listener."""

    replica_id: str
    address: str  # host:port
