"""One running job inside the engine: what is left to prefill, what was produced, what may be shown."""

from dataclasses import dataclass, field

from protos.contract.request import Job
from protos.contract.stream import TokenLogprob
from workers.engines.detokenizer import Detokenizer
from workers.engines.llama_cpp.sampling import Sampler


@dataclass(slots=True, kw_only=True)
class Sequence:
    """A job with a slot. ``tokens`` is everything that belongs in its KV cache, in order."""

    job: Job
    tokens: list[int]  # prompt, then what was produced
    prompt_tokens: int
    budget: int  # output tokens it may produce
    sampler: Sampler
    detokenizer: Detokenizer
    deadline_at: float
    slot: int = -1
    computed: int = 0  # tokens in the KV cache
    cached_tokens: int = 0  # of the prompt, found there already
    produced: int = 0
    reported: int = 0  # output tokens sent in deltas
    text: list[str] = field(default_factory=list)  # since the last delta
    new_ids: list[int] = field(default_factory=list)  # since the last delta
    logprobs: list[TokenLogprob] = field(default_factory=list)  # since the last delta

    @property
    def key(self) -> tuple[str, int]:
        """Request id and attempt."""
        return self.job.request_id, self.job.attempt

    @property
    def pending(self) -> int:
        """Tokens not computed yet; 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether nothing was produced yet."""
        return self.produced == 0

    @property
    def expected_remaining(self) -> int:
        """Output tokens that probably still come: the router's guess, within the budget."""
        expected = self.job.expected_output_tokens or self.budget
        return max(1, min(self.budget, expected) - self.produced)
