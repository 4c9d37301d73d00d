"""The engine interface: what a worker asks of the runtime inside, small enough to read in a minute.

An engine runs its model in its own thread or process; its methods are coroutines that never block the event
loop. Output of all running requests leaves through one stream of ``StepResult``. A request that passed
``submit`` ends in exactly one delta with a finish reason, whatever happens to it, unless the engine dies: then
``steps`` raises ``EngineFailed`` and the worker ends what was running.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from protos.contract.events import CacheChange, DraftReport
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, RefusalCode
from protos.contract.worker import Load, ModelInstance
from workers.drafting.link import DraftLink
from workers.drafting.room import DraftRooms
from workers.errors import WorkerError


class EngineError(WorkerError):
    """Root of what engines raise on purpose."""


class LoadError(EngineError):
    """The model cannot be loaded: wrong path, corrupt file, unsupported quantization, not enough memory."""


class EngineFailed(EngineError):
    """The engine's thread or process died; nothing it ran survives."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What to load. ``path``: a GGUF file, a Hugging Face folder, a base URL or a simulated profile."""

    name: str  # public name
    path: str
    quantization: str = ""  # empty: read from the file
    context_tokens: int = 0  # 0: the engine's default for this model
    slots: int = 0  # 0: the engine's default
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    order: str = ""  # of the router that wants it loaded; empty: this machine's owner does
    urgent: bool = False  # somebody waits for it: it is not measured first, unless that was done before


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """One step by the clock, and what the engine says it held; see ``step_clock``."""

    seconds: float
    batch: int
    context_tokens: int  # in all sequences together
    prefill_tokens: int = 0
    prefills: int = 0  # sequences those belong to; 0: not told


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one engine step produced, for all requests together. ``at``: monotonic seconds of when the step's numbers
    were there, 0 where only the reader can tell. ``step`` is the reader's to fill in.
    """

    deltas: tuple[Delta, ...]
    load: Load
    cache: tuple[CacheChange, ...] = ()
    at: float = 0.0
    step: TimedStep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Log-probabilities of given tokens: ``logprobs[i]`` is that of ``token_ids[i]`` given those before it;
    the first token has none and is left out of both.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector for each input, at unit length, and the tokens of all inputs together."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


Progress = Callable[[float, str], None]
"""Called with the fraction done (0..1) and one line for people; from any thread."""


Counted = Callable[[int], None]
"""Called with a request's prompt tokens, once it is certain that it will be served."""


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

    async def load(self, spec: ModelSpec, progress: Progress) -> ModelInstance:
        """Load a model. Raises LoadError with one clear line; nothing stays allocated then."""
        ...

    async def unload(self, name: str, quantization: str) -> None:
        """Free a model's memory; what it was running ends with FinishReason.ABORTED."""
        ...

    @property
    def models(self) -> tuple[ModelInstance, ...]:
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

    def load_figures(self) -> Load:
        """The load now."""
        ...

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Log-probabilities of a text's (or of given) tokens. Raises Refused when not able."""
        ...

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        """Embed texts; ``counted`` is told their tokens once they fit. Raises Refused before that, when not able; is
        cancelled when nobody waits any more.
        """
        ...

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        """Pull proposals for this model from a draft worker from now on; None: no more. Raises Refused where none from
        outside are taken.
        """
        ...

    def draft_reports(self) -> tuple[DraftReport, ...]:
        """How each model gets on with the draft it was assigned."""
        ...

    async def close(self) -> None:
        """Stop everything and free all memory. Idempotent."""
        ...


class DraftingEngine(Engine, DraftRooms, Protocol):
    """An engine whose models propose tokens to targets elsewhere, and answer no requests."""
