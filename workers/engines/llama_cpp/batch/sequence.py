"""One running job inside the engine: how it is made ready, what is left to prefill, what was produced and shown."""

import time
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import RefusalCode, TokenLogprob
from workers.engines.base import Refused
from workers.engines.echo import Echo, echo_of
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.constraint import Constraint
from workers.engines.grammar.rules import kept_to
from workers.engines.llama_cpp.batch.sampling import Sampler
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.prompts import Prompts
from workers.engines.speech import Speech
from workers.engines.templates.dialogue import Dialogue
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
    speech: Speech
    constraint: Constraint | None = None  # what the answer is kept to
    echo: Echo | None = None  # its prompt, to be repeated
    deadline_at: float
    slot: int = -1
    computed: int = 0  # tokens in the KV cache
    cached_tokens: int = 0  # of the prompt, found there already
    produced: int = 0
    reported: int = 0  # output tokens sent in deltas
    new_ids: list[int] = field(default_factory=list)  # since the last delta
    logprobs: list[TokenLogprob] = field(default_factory=list)  # since the last delta
    speculation: Speculation | None = None  # where the model's memory can be rolled back

    @property
    def draft_key(self) -> str:
        """Its name for a drafter."""
        return f"{self.job.request_id}/{self.job.attempt}"

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens that the next step verifies."""
        return self.speculation.draft if self.speculation is not None else ()

    def fitting(self, tokens: Tokens[int]) -> int:
        """How many of some proposed tokens its grammar lets come next; thoughts are free."""
        if self.constraint is None or not self.speech.answering:
            return len(tokens)
        return self.constraint.fitting(tokens)

    @property
    def scores_prompt(self) -> bool:
        """The log-probabilities of its prompt are wanted, and are not all there yet."""
        return self.echo is not None and self.echo.scores and self.prefilling

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

    def __init__(
        self, prompts: Prompts, grammars: GrammarCompiler, model: NativeModel, dialogue: Dialogue | None
    ) -> None:
        self._prompts = prompts
        self._grammars = grammars
        self._model = model
        self._dialogue = dialogue

    def prepare(self, job: Job) -> Sequence:
        """A sequence ready to be queued; raises Refused."""
        prepared = self._prompts.prepare(job)
        channels = None if self._dialogue is None else self._dialogue.channels(job, prepared.text)
        sent = job.continue_from.text if job.continue_from is not None else ""
        speech = Speech(job.sampling.stop, channels, sent)
        answered = prepared.sent if channels is None else self._plain(speech.answered)
        constraint = self._constraint(job, answered)
        penalized = frozenset(prepared.prompt) if job.sampling.repetition_penalty != 1 else frozenset()
        ends = () if job.sampling.ignore_eos else self._model.end_tokens
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
            speech=speech,
            constraint=constraint,
            echo=echo_of(job.sampling, prepared.prompt, self._model.start_token, self._model.piece),
            deadline_at=time.monotonic() + job.deadline_s if job.deadline_s > 0 else FOREVER,
        )

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text, special=True, add_start=False) if text else []

    def _constraint(self, job: Job, answered: list[int]) -> Constraint | None:
        """What the answer is kept to, after what there is of it already."""
        kept = kept_to(job, self._dialogue, self._grammars)
        if kept is None:
            return None
        _, constraint = kept
        if not constraint.replay(answered):
            reason = f"the answer so far does not fit its grammar: {constraint.error}"
            raise Refused(RefusalCode.INVALID, reason, parameter="response_format")
        return constraint

    def to_embed(self, asked: EmbeddingInputs) -> list[list[int]]:
        """Tokens of each input; raises Refused."""
        if asked.dimensions > self._model.vector_width:
            reason = f"this model's vectors have {self._model.vector_width} dimensions, not {asked.dimensions}"
            raise Refused(RefusalCode.INVALID, reason, parameter="dimensions")
        one = len(asked.inputs) == 1
        return [
            self._prompts.to_embed(given, "input" if one else f"input[{number}]")
            for number, given in enumerate(asked.inputs)
        ]

    def to_score(self, text: str, token_ids: tuple[int, ...]) -> list[int]:
        """Tokens to score; raises Refused when there are fewer than two or more than the context holds."""
        return self._prompts.to_score(text, token_ids)
