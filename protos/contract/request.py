"""What a worker is asked to generate."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.contract.content import ContentPart, Image
from protos.contract.grammar import Grammar
from protos.contract.ids import RequestId
from protos.contract.tools import ToolCall, Tooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation: ``content``, or ``parts`` where there is more than text."""

    role: str
    content: str = ""
    name: str = ""
    parts: tuple[ContentPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant
    tool_call_id: str = ""  # which call this is the result of
    reasoning: str = ""  # what an assistant thought before it answered

    @property
    def text(self) -> str:
        """Everything in it that is text."""
        return "".join(one for one in self.parts if isinstance(one, str)) if self.parts else self.content

    @property
    def images(self) -> tuple[Image, ...]:
        """In their order."""
        return tuple(one for one in self.parts if isinstance(one, Image))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How output tokens are drawn. Defaults are OpenAI's; ``max_tokens`` None: as many as the context leaves.

    With ``echo`` the prompt is repeated first, with its log-probabilities where those are asked for; ``max_tokens`` may
    then be 0.
    """

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
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # by token id; added to its logit
    min_tokens: int = 0  # no end before so many
    stop_token_ids: tuple[int, ...] = ()  # end the answer, and are no part of it
    echo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingInputs:
    """Texts, or token ids, a vector is wanted of. ``dimensions``: the first so many, at unit length again; 0: all."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueFrom:
    """Output the client already has. The engine prefills prompt + this and goes on after it.

    ``text`` is the model's own output (``Delta.raw`` where there is any), so that an engine that tells calls and
    thoughts apart, or keeps to a grammar, comes to the same state by reading it.
    ``token_ids`` (empty when not every token's id is known) are used when ``tokenizer_fingerprint`` equals the
    model's own, else ``text`` is tokenized.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    tokenizer_fingerprint: str = ""
    output_tokens: int = 0  # the client has been charged for so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at one request: a chat, a prompt, or an embedding.

    Several prompts and several choices are several requests of the router's: an engine that has the prompt in its
    cache computes it once.
    """

    request_id: RequestId
    attempt: int
    model: str
    quantization: str
    messages: tuple[ChatMessage, ...] = ()  # chat, or
    prompt: str | tuple[int, ...] = ""  # text or token ids, or
    embedding: EmbeddingInputs | None = None  # what vectors are wanted of
    tooling: Tooling | None = None  # of a chat
    grammar: Grammar | None = None
    template_arguments: str = ""  # JSON object of what the chat template is given beside the messages
    sampling: Sampling = field(default_factory=Sampling)
    block_hashes: tuple[int, ...] = ()  # chained hashes of the prompt's text blocks
    cache_salt: str = ""  # prompts share what is cached of them only where this is equal
    expected_output_tokens: int = 0
    continue_from: ContinueFrom | None = None
    deadline_s: float = 0.0  # from receipt; 0: none
    priority: int = 0  # higher goes first
    return_token_ids: bool = False
