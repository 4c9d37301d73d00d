"""One job inside vLLM: from the tokens it gives out to the deltas of the contract. Pure."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from protos.contract.request import Job
from protos.contract.stream import Delta, FinishReason, TokenLogprob, Usage
from workers.engines.echo import Echo
from workers.engines.prompts import Prepared
from workers.engines.speech import Speech


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What vLLM said in one step about one job."""

    token_ids: Sequence[int]
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""


@dataclass(slots=True, kw_only=True)
class Running:
    """A job that was accepted and has not ended."""

    job: Job
    prepared: Prepared
    piece: Callable[[int], bytes]
    ends: frozenset[int]  # ids that end an answer, and are no part of it
    engine_id: str  # what vLLM calls the request
    position: int = 0  # output tokens so far
    cached_tokens: int = 0
    ended: bool = False
    task: asyncio.Task[None] | None = None
    speech: Speech
    pictures: list[Any] = field(default_factory=list)  # of its messages, decoded
    structured: dict[str, Any] | None = None  # what vLLM keeps it to
    echo: Echo | None = None  # its prompt, to be repeated

    @property
    def key(self) -> tuple[str, int]:
        """Request id and attempt."""
        return self.job.request_id, self.job.attempt

    def prompt_was(self, tokens: Sequence[int]) -> None:
        """The prompt as vLLM read it: an image is one token until then."""
        sent = len(self.prepared.sent)
        if self.pictures and tokens:
            self.prepared = replace(self.prepared, prompt=list(tokens[: len(tokens) - sent]))

    @property
    def expected_remaining(self) -> int:
        """Output tokens that probably still come: the router's guess, within the budget."""
        expected = self.job.expected_output_tokens or self.prepared.budget
        return max(1, min(self.prepared.budget, expected) - self.position)

    def feed(self, output: Output) -> Delta:
        """The delta of one step; sets ``ended`` with the last one, also when a stop string ends the job early."""
        tokens = list(output.token_ids)
        reason = output.finish_reason
        if tokens and self._ends_it(tokens[-1]):
            tokens.pop()
        used = 0
        for token in tokens:
            self.speech.feed(self.piece(token))
            used += 1
            if self.speech.over:
                reason = FinishReason.STOP
                break
        self.cached_tokens = max(self.cached_tokens, min(output.cached_tokens, len(self.prepared.prompt)))
        return self._delta(tokens[:used], output.logprobs[:used], reason, output.error)

    def _ends_it(self, token: int) -> bool:
        sampling = self.job.sampling
        return token in sampling.stop_token_ids or (token in self.ends and not sampling.ignore_eos)

    def end(self, reason: FinishReason, error: str = "") -> Delta:
        """The last delta of a job that ends for a reason of ours."""
        return self._delta([], (), reason, error)

    def _delta(
        self,
        tokens: list[int],
        logprobs: tuple[TokenLogprob, ...],
        reason: FinishReason | None,
        error: str,
    ) -> Delta:
        position, usage = self.position, None
        self.position += len(tokens)
        if reason is not None:
            self.ended = True
            self.speech.end()
            if reason is FinishReason.STOP and self.speech.called:
                reason = FinishReason.TOOL_CALLS
            usage = Usage(
                prompt_tokens=len(self.prepared.prompt),
                completion_tokens=self.position,
                cached_tokens=self.cached_tokens,
            )
        return Delta(
            request_id=self.job.request_id,
            attempt=self.job.attempt,
            position=position,
            **self.speech.take(),
            **(self.echo.take() if self.echo is not None else {}),
            stopped_by=self.speech.stopped_by if reason is FinishReason.STOP else "",
            token_ids=tuple(tokens) if self.job.return_token_ids else (),
            token_count=len(tokens),
            text_tokens=self.speech.text_tokens,
            finish_reason=reason,
            usage=usage,
            logprobs=logprobs,
            error=error,
        )
