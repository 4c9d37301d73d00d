"""From a job to a sequence that is ready to be queued."""

import time

from protos.contract.request import Job
from workers.engines.detokenizer import Detokenizer
from workers.engines.llama_cpp.sampling import Sampler
from workers.engines.llama_cpp.sequence import Sequence
from workers.engines.prompts import Prompts

FOREVER = float("inf")


class Preparation:
    """Counts exactly; may run on any thread."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def prepare(self, job: Job) -> Sequence:
        """A sequence ready to be queued; raises Refused."""
        prepared = self._prompts.prepare(job)
        penalized = frozenset(prepared.prompt) if job.sampling.repetition_penalty != 1 else frozenset()
        sampler = Sampler(job.sampling, prompt_seen=penalized)
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
            deadline_at=time.monotonic() + job.deadline_s if job.deadline_s > 0 else FOREVER,
        )

    def to_score(self, text: str, token_ids: tuple[int, ...]) -> list[int]:
        """Tokens to score; raises Refused when there are fewer than two or more than the context holds."""
        return self._prompts.to_score(text, token_ids)
