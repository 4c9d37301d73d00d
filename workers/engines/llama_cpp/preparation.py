"""From a job to a sequence: render, tokenize, count, and refuse what does not fit, before any work is done."""

import time

from workers.engines.base import ContinueFrom, Job, RefusalCode, Refused
from workers.engines.llama_cpp.chat import ChatTemplate
from workers.engines.llama_cpp.detokenizer import Detokenizer
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.sampling import Sampler
from workers.engines.llama_cpp.sequence import Sequence

FOREVER = float("inf")


class Preparation:
    """Counts exactly. Tokenizing reads the vocabulary only, so it may run on any thread."""

    def __init__(self, model: NativeModel, template: ChatTemplate, context_tokens: int, fingerprint: str) -> None:
        self._model = model
        self._template = template
        self._context_tokens = context_tokens
        self._fingerprint = fingerprint

    def prepare(self, job: Job) -> Sequence:
        """A sequence ready to be queued; raises Refused."""
        prompt = self._prompt(job)
        sent = self._sent(job.continue_from)
        tokens = prompt + sent
        budget = self._budget(job, len(tokens), len(prompt))
        sampler = Sampler(job.sampling, prompt_seen=self._penalized(job, prompt))
        for token in sent:
            sampler.seen[token] += 1
        sampler.skip(len(sent))
        return Sequence(
            job=job,
            tokens=tokens,
            prompt_tokens=len(prompt),
            budget=budget,
            sampler=sampler,
            detokenizer=Detokenizer(job.sampling.stop),
            deadline_at=time.monotonic() + job.deadline_s if job.deadline_s > 0 else FOREVER,
        )

    def to_score(self, text: str, token_ids: tuple[int, ...]) -> list[int]:
        """Tokens to score; raises Refused when there are fewer than two or more than the context holds."""
        tokens = list(token_ids) or self._model.tokenize(text, special=False, add_start=self._model.adds_start)
        self._check_ids(tokens)
        if len(tokens) < 2:
            raise Refused(RefusalCode.INVALID, "scoring needs at least two tokens", parameter="text")
        if len(tokens) > self._context_tokens:
            reason = f"this model's context holds {self._context_tokens} tokens, the text has {len(tokens)}"
            raise Refused(RefusalCode.CONTEXT_LENGTH, reason, prompt_tokens=len(tokens), parameter="text")
        return tokens

    def _check_ids(self, tokens: list[int]) -> None:
        wrong = next((token for token in tokens if not 0 <= token < self._model.vocab_size), None)
        if wrong is not None:
            reason = f"token id {wrong} is outside the vocabulary of {self._model.vocab_size} tokens"
            raise Refused(RefusalCode.INVALID, reason, parameter="prompt")

    def _prompt(self, job: Job) -> list[int]:
        if job.messages:
            prompt = self._model.tokenize(self._template.render(job.messages), special=True, add_start=False)
        elif isinstance(job.prompt, str):
            prompt = self._model.tokenize(job.prompt, special=False, add_start=self._model.adds_start)
        else:
            prompt = list(job.prompt)
            self._check_ids(prompt)
        if not prompt:
            start = self._model.start_token
            if start < 0:
                raise Refused(RefusalCode.INVALID, "the prompt is empty", parameter="prompt")
            prompt = [start]
        return prompt

    def _sent(self, resume: ContinueFrom | None) -> list[int]:
        """Tokens the client already has: its ids when they mean the same here and spell the text, else the text's."""
        if resume is None:
            return []
        ids = list(resume.token_ids)
        if ids and resume.tokenizer_fingerprint == self._fingerprint:
            spelled = b"".join(self._model.piece(token) for token in ids)
            if spelled == resume.text.encode("utf-8", "replace"):
                return ids
        return self._model.tokenize(resume.text, special=False, add_start=False) if resume.text else []

    def _budget(self, job: Job, used: int, prompt: int) -> int:
        left = self._context_tokens - used
        wanted = job.sampling.max_tokens
        if left < 1 or (wanted is not None and wanted > left):
            asked = f"{used} in the prompt" + (f", {wanted} for the answer" if wanted is not None else "")
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"this model's context holds {self._context_tokens} tokens, the request needs more: {asked}",
                prompt_tokens=prompt,
                max_tokens=wanted or 0,
                context_tokens=self._context_tokens,
                parameter="messages" if job.messages else "prompt",
            )
        return left if wanted is None else wanted

    @staticmethod
    def _penalized(job: Job, prompt: list[int]) -> frozenset[int]:
        return frozenset(prompt) if job.sampling.repetition_penalty != 1 else frozenset()
