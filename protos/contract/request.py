"""What a worker is asked to generate."""

from dataclasses import dataclass, field

from protos.contract.ids import RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation, text only."""

    role: str
    content: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How output tokens are drawn. Defaults are OpenAI's; ``max_tokens`` None: as many as the context leaves."""

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

    ``token_ids`` (empty when not every token's id is known) are used when ``tokenizer_fingerprint`` equals the
    model's own, else ``text`` is tokenized.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    tokenizer_fingerprint: str = ""
    output_tokens: int = 0  # the client has been charged for so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at one request."""

    request_id: RequestId
    attempt: int
    model: str
    quantization: str
    messages: tuple[ChatMessage, ...] = ()  # chat, or
    prompt: str | tuple[int, ...] = ""  # text or token ids
    sampling: Sampling = field(default_factory=Sampling)
    block_hashes: tuple[int, ...] = ()  # chained hashes of the prompt's text blocks
    expected_output_tokens: int = 0
    continue_from: ContinueFrom | None = None
    deadline_s: float = 0.0  # from receipt; 0: none
    priority: int = 0  # higher goes first
    return_token_ids: bool = False
