"""What a client wants, in no dialect's terms: every dialect translates into this, and from nothing else."""

from dataclasses import dataclass, field

from protos.contract.grammar import Grammar
from protos.contract.request import ChatMessage, EmbeddingInputs, Sampling
from protos.contract.tools import Tooling
from router.domain.request import SloTargets

Prompt = str | tuple[int, ...]
"""Text, or token ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A chat (``messages``), completions of ``prompts``, or vectors (``embedding``); exactly one of them.

    ``choices``: how many answers to each prompt. ``model`` as the client wrote it, with its quantization rule.
    """

    model: str
    messages: tuple[ChatMessage, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    embedding: EmbeddingInputs | None = None
    sampling: Sampling = field(default_factory=Sampling)
    unset: frozenset[str] = frozenset()  # what of the sampling the client left open
    tooling: Tooling | None = None
    grammar: Grammar | None = None
    template_arguments: str = ""  # JSON object
    choices: int = 1
    quality: str | None = None
    priority: int | None = None
    slo: SloTargets | None = None
    deadline_s: float | None = None

    @property
    def is_chat(self) -> bool:
        """A conversation, rather than a text to go on with."""
        return bool(self.messages)
