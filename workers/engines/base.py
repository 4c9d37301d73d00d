"""The engine interface: what a worker asks of the runtime inside, small enough to read in a minute.

An engine runs its model in its own thread or process; its methods are coroutines that never block the event
loop. Output of all running requests leaves through one stream of ``StepResult``. A request that passed
``submit`` ends in exactly one delta with a finish reason, whatever happens to it, unless the engine dies: then
``steps`` raises ``EngineFailed`` and the worker ends what was running.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from workers.errors import WorkerError


class EngineError(WorkerError):
    """Root of what engines raise on purpose."""


class LoadError(EngineError):
    """The model cannot be loaded: wrong path, corrupt file, unsupported quantization, not enough memory."""


class EngineFailed(EngineError):
    """The engine's thread or process died; nothing it ran survives."""


class RefusalCode(StrEnum):
    """Why a job is not taken (the contract's RefusalCode)."""

    CONTEXT_LENGTH = "context_length"
    INVALID = "invalid"
    BUSY = "busy"
    DRAINING = "draining"
    MODEL_NOT_LOADED = "model_not_loaded"
    UNSUPPORTED = "unsupported"
    ENGINE_FAILED = "engine_failed"
    CONFLICT = "conflict"  # not the engine's word: the router's condition does not hold


class Refused(EngineError):
    """The engine does not take the job; nothing was computed."""

    def __init__(
        self,
        code: RefusalCode,
        message: str,
        *,
        prompt_tokens: int = 0,
        max_tokens: int = 0,
        context_tokens: int = 0,
        parameter: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context_tokens = context_tokens
        self.parameter = parameter


class FinishReason(StrEnum):
    """Why a job ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the engine can do with the loaded model. Declared; the contract suite checks each claim."""

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
class ModelSpec:
    """What to load. ``path``: a GGUF file, a Hugging Face folder, a base URL or a simulated profile."""

    name: str  # public name
    path: str
    quantization: str = ""  # empty: read from the file
    context_tokens: int = 0  # 0: the engine's default for this model
    slots: int = 0  # 0: the engine's default
    options: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """Facts about a loaded model, read from the file itself where it tells (see ModelInstance of the contract)."""

    name: str
    quantization: str
    format: str
    context_tokens: int
    slots: int
    capabilities: Capabilities
    bits_per_weight: float = 0.0
    weights_bytes: int = 0
    parameters: int = 0
    active_parameters: int = 0
    layers: int = 0
    kv_heads: int = 0
    head_dim_k: int = 0
    head_dim_v: int = 0
    kv_capacity_tokens: int = 0
    kv_bytes_per_token: int = 0
    block_tokens: int = 1
    tokenizer_fingerprint: str = ""
    chat_template_fingerprint: str = ""
    lineage: str = ""
    file: str = ""
    tokens_per_byte: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message."""

    role: str
    content: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; ``max_tokens`` None: as many as the context leaves."""

    max_tokens: int | None = None
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueFrom:
    """Output the client already has. The engine prefills prompt + this and goes on after it.

    ``token_ids`` are used when ``tokenizer_fingerprint`` equals the model's own, else ``text`` is tokenized.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    tokenizer_fingerprint: str = ""
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at one request."""

    request_id: str
    attempt: int
    model: str
    quantization: str
    messages: tuple[Message, ...] = ()  # chat, or
    prompt: str | tuple[int, ...] = ""  # text or token ids
    sampling: Sampling = field(default_factory=Sampling)
    block_hashes: tuple[int, ...] = ()
    expected_output_tokens: int = 0
    continue_from: ContinueFrom | None = None
    deadline_s: float = 0.0  # from receipt; 0: none
    priority: int = 0
    return_token_ids: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The job was counted and queued."""

    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLogprob:
    """A rival token."""

    token_id: int
    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Log-probability of a sampled token, under the model's own distribution (before temperature)."""

    token_id: int
    token: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Exact counts of one attempt."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """New output of one job in one step: one or many tokens.

    ``text`` holds whole characters, and nothing that may yet turn out to belong to a stop string;
    ``text_tokens`` counts the output tokens whose text has been released so far.
    """

    request_id: str
    attempt: int
    position: int  # output tokens of this attempt before this delta
    text: str = ""
    token_ids: tuple[int, ...] = ()  # when asked for
    token_count: int = 0
    text_tokens: int = 0
    finish_reason: FinishReason | None = None
    usage: Usage | None = None  # with the finish reason
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheChange:
    """Text blocks (hashes as they came with jobs) that became resident or went."""

    model: str
    quantization: str
    stored: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()
    cleared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """What the engine is doing; all zero again once nothing runs (sequence counters apart)."""

    running: int = 0
    waiting: int = 0
    prefill_tokens_pending: int = 0
    context_tokens: int = 0
    expected_remaining_tokens: int = 0
    kv_used: float = 0.0
    step_sequence: int = 0
    prefill_progress: int = 0
    tokens_per_s: float = 0.0
    last_step_s: float = 0.0
    last_step_batch: int = 0
    last_step_prefill_tokens: int = 0
    last_step_prefills: int = 0  # sequences those tokens belong to; 0: the engine does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one engine step produced, for all requests together."""

    deltas: tuple[Delta, ...]
    load: LoadFigures
    cache: tuple[CacheChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Log-probabilities of given tokens: ``logprobs[i]`` is that of ``token_ids[i]`` given those before it;
    the first token has none and is left out of both.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector for one text."""

    values: tuple[float, ...]
    prompt_tokens: int


Progress = Callable[[float, str], None]
"""Called with the fraction done (0..1) and one line for people; from any thread."""


class Engine(Protocol):
    """A runtime that serves models. One consumer reads ``steps``; everything else may be called at any time."""

    @property
    def kind(self) -> str:
        """The engine's name: llama.cpp, vllm, openai or simulated."""
        ...

    @property
    def version(self) -> str:
        """The runtime's own version."""
        ...

    async def load(self, spec: ModelSpec, progress: Progress) -> LoadedModel:
        """Load a model. Raises LoadError with one clear line; nothing stays allocated then."""
        ...

    async def unload(self, name: str, quantization: str) -> None:
        """Free a model's memory; what it was running ends with FinishReason.ABORTED."""
        ...

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """What is loaded now."""
        ...

    async def submit(self, job: Job) -> Accepted:
        """Count the prompt exactly and queue the job. Raises Refused before any work is done."""
        ...

    def abort(self, request_id: str, attempt: int) -> None:
        """Stop a job and free its slot within one step. Its last delta says ABORTED. Unknown: ignored."""
        ...

    def steps(self) -> AsyncIterator[StepResult]:
        """Results as they come, for ever; raises EngineFailed when the runtime died."""
        ...

    def load_figures(self) -> LoadFigures:
        """The load now."""
        ...

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Log-probabilities of a text's (or of given) tokens. Raises Refused when not able."""
        ...

    async def embed(self, model: str, quantization: str, text: str) -> Embedded:
        """Embed a text. Raises Refused when not able."""
        ...

    async def close(self) -> None:
        """Stop everything and free all memory. Idempotent."""
        ...
