"""What a client asked for, after validation and before any decision."""

from dataclasses import dataclass, field
from enum import StrEnum

from protos.contract.grammar import Grammar
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, EmbeddingInputs, Sampling
from protos.contract.tools import Tooling
from router.domain.ids import ANONYMOUS, Tenant


class RequestKind(StrEnum):
    """Which endpoint the request came through."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model as the client names it: ``name``, ``name@q8_0`` (pinned) or ``name@>=q6_k`` (floor)."""

    name: str
    pinned: str | None = None  # canonical quantization name
    floor: str | None = None  # canonical quantization name; equal or better quality is admitted

    def __str__(self) -> str:
        if self.pinned:
            return f"{self.name}@{self.pinned}"
        return f"{self.name}@>={self.floor}" if self.floor else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SloTargets:
    """What the client counts as in time. ``None``: no target."""

    ttft_s: float | None = None
    ttft_per_prompt_token_s: float = 0.0
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """One client request. Token counts here are the router's estimates; the worker counts exactly."""

    request_id: RequestId
    kind: RequestKind
    model: ModelRef
    messages: tuple[ChatMessage, ...] = ()  # for chat
    prompt: str | tuple[int, ...] = ""  # for completion: text or token ids
    embedding: EmbeddingInputs | None = None  # for embedding
    images: int = 0  # in the messages
    tooling: Tooling | None = None  # of a chat
    grammar: Grammar | None = None
    template_arguments: str = ""  # JSON object of what the chat template is given beside the messages
    sampling: Sampling = field(default_factory=Sampling)
    tenant: Tenant = ANONYMOUS
    priority: int = 0  # higher goes first
    slo: SloTargets | None = None
    required_labels: tuple[tuple[str, str], ...] = ()  # the worker must carry all of them
    prompt_bytes: int = 0
    cache_salt: str = ""  # prompts share what is cached of them only where this is equal
    block_hashes: tuple[int, ...] = ()  # chained hashes of the prompt's text blocks
    prompt_tokens_estimate: int = 0
    expected_output_tokens: int = 0
    arrived_at: float = 0.0  # monotonic
    deadline_at: float = float("inf")  # monotonic
    continues: bool = False  # part of the answer is already with the client: only workers that can_continue
    output_format: str = ""  # what of it is with the client is marked like this: only workers that read it
    never_quantized: bool = False  # the tenant's rule: full precision only
