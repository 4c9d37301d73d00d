"""One running job inside the engine: how it is made ready, what is left to prefill, what was produced and shown."""

import time
from dataclasses import dataclass, field

from protos.contract.grammar import GrammarKind
from protos.contract.request import Job
from protos.contract.stream import RefusalCode, TokenLogprob
from workers.engines.base import Refused
from workers.engines.detokenizer import Detokenizer
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.constraint import Constraint
from workers.engines.grammar.source import BadGrammar
from workers.engines.llama_cpp.sampling import Sampler
from workers.engines.prompts import Prompts
from workers.speculation.speculator import Speculation

FOREVER = float("inf")


@dataclass(slots=True, kw_only=True)
class Sequence:
    """A job with a slot. ``tokens`` is everything that belongs in its KV cache, in order."""

    job: Job
    tokens: list[int]  # prompt, then what was produced
    prompt_tokens: int
    budget: int  # output tokens it may produce
    sampler: Sampler
    detokenizer: Detokenizer
    constraint: Constraint | None = None  # what the answer is kept to
    deadline_at: float
    slot: int = -1
    computed: int = 0  # tokens in the KV cache
    cached_tokens: int = 0  # of the prompt, found there already
    produced: int = 0
    reported: int = 0  # output tokens sent in deltas
    text: list[str] = field(default_factory=list)  # since the last delta
    new_ids: list[int] = field(default_factory=list)  # since the last delta
    logprobs: list[TokenLogprob] = field(default_factory=list)  # since the last delta
    speculation: Speculation | None = None  # where the model's memory can be rolled back

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens that the next step verifies."""
        return self.speculation.draft if self.speculation is not None else ()

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


class Preparation:
    """Counts exactly; may run on any thread."""

    def __init__(self, prompts: Prompts, grammars: GrammarCompiler, ends: tuple[int, ...]) -> None:
        self._prompts = prompts
        self._grammars = grammars
        self._ends = ends

    def prepare(self, job: Job) -> Sequence:
        """A sequence ready to be queued; raises Refused."""
        prepared = self._prompts.prepare(job)
        constraint = self._constraint(job, prepared.sent)
        penalized = frozenset(prepared.prompt) if job.sampling.repetition_penalty != 1 else frozenset()
        ends = () if job.sampling.ignore_eos else self._ends
        sampler = Sampler(job.sampling, prompt_seen=penalized, ends=(*ends, *job.sampling.stop_token_ids))
        for token in prepared.sent:
            sampler.seen[token] += 1
        sampler.skip(len(prepared.sent))
        return Sequence(
            job=job,
            tokens=prepared.tokens,
            prompt_tokens=len(prepared.prompt),
            budget=prepared.budget,
            sampler=sampler,
            detokenizer=Detokenizer(job.sampling.stop),
            constraint=constraint,
            deadline_at=time.monotonic() + job.deadline_s if job.deadline_s > 0 else FOREVER,
        )

    def _constraint(self, job: Job, sent: list[int]) -> Constraint | None:
        if job.grammar is None:
            return None
        what = "schema" if job.grammar.kind is GrammarKind.JSON_SCHEMA else f"grammar ({job.grammar.kind})"
        try:
            constraint = self._grammars.constraint(job.grammar)
        except BadGrammar as error:
            reason = f"the {what} cannot be compiled: {error}"
            raise Refused(RefusalCode.INVALID, reason, parameter="response_format") from None
        if not constraint.replay(sent):
            reason = f"the answer so far does not fit the {what}: {constraint.error}"
            raise Refused(RefusalCode.INVALID, reason, parameter="response_format")
        return constraint

    def to_score(self, text: str, token_ids: tuple[int, ...]) -> list[int]:
        """Tokens to score; raises Refused when there are fewer than two or more than the context holds."""
        return self._prompts.to_score(text, token_ids)
