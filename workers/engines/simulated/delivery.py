"""From counts to text: what a simulated job has said so far, and the deltas that say it."""

from dataclasses import dataclass

from protos.contract.request import Job
from protos.contract.stream import Delta, FinishReason, TokenLogprob, TopLogprob, Usage
from workers.engines.simulated import content
from workers.engines.simulated.sequence import Sequence_


@dataclass(slots=True)
class Speaker:
    """One job's mouth. ``start``: output position at which this attempt goes on; ``stop_text``: what the text is cut
    to when a stop string ends it.
    """

    job: Job
    key: int
    start: int
    sequence: Sequence_
    reason: FinishReason
    stop_text: str | None = None
    said: int = 0  # tokens of this attempt delivered
    text_said: int = 0  # characters, where a stop string cuts the text

    def speak(self, produced: int, end: FinishReason | None, error: str = "") -> Delta | None:
        """What is new up to ``produced`` tokens; None when that is nothing."""
        count = produced - self.said
        if count <= 0 and end is None:
            return None
        ids = tuple(content.token_at(self.key, self.start + at) for at in range(self.said, produced))
        text = self._text(ids, produced)
        position, self.said = self.said, produced
        sampling = self.job.sampling
        return Delta(
            request_id=self.job.request_id,
            attempt=self.job.attempt,
            position=position,
            text=text,
            token_ids=ids if self.job.return_token_ids else (),
            token_count=count,
            text_tokens=produced,
            finish_reason=end,
            usage=self.usage(produced) if end is not None else None,
            logprobs=tuple(_logprob(one, sampling.top_logprobs) for one in ids) if sampling.logprobs else (),
            error=error,
        )

    def usage(self, produced: int) -> Usage:
        """Exact counts."""
        sequence = self.sequence
        return Usage(
            prompt_tokens=sequence.prompt_tokens, completion_tokens=produced, cached_tokens=sequence.cached_tokens
        )

    def _text(self, ids: tuple[int, ...], produced: int) -> str:
        if self.stop_text is None:
            return "".join(map(content.token_text, ids))
        whole = content.answer(self.key, self.start, produced)[: len(self.stop_text)]
        new = whole[self.text_said :]
        self.text_said = len(whole)
        return new


def speaker_for(job: Job, *, prompt_tokens: int, context_tokens: int, mu: float, sigma: float, salt: str) -> Speaker:
    """Where the job's answer begins, how long it gets, and why it ends there."""
    key = content.job_key(job, salt)
    start = content.sent_before(job)
    room = context_tokens - prompt_tokens - start
    limit = room if job.sampling.max_tokens is None else min(job.sampling.max_tokens, room)
    length, reason = limit, FinishReason.LENGTH
    if not job.sampling.ignore_eos:
        natural = max(content.answer_length(key, mu, sigma) - start, 1)
        if natural <= limit:
            length, reason = natural, FinishReason.STOP
    stop_text = None
    if job.sampling.stop:
        cut = _stopped(key, start, length, job.sampling.stop)
        if cut is not None:
            length, stop_text = cut
            reason = FinishReason.STOP
    sequence = Sequence_(
        key=(job.request_id, job.attempt),
        prompt_tokens=prompt_tokens + start,
        output_tokens=length,
        expected_tokens=job.expected_output_tokens or length,
        block_hashes=job.block_hashes,
        block_tokens=max(prompt_tokens // len(job.block_hashes), 1) if job.block_hashes else 64,
        priority=job.priority,
    )
    return Speaker(job, key, start, sequence, reason, stop_text)


def _stopped(key: int, start: int, length: int, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Tokens and text up to the first stop string; None when none occurs."""
    text = ""
    for count in range(1, length + 1):
        before = len(text)
        text += content.token_text(content.token_at(key, start + count - 1))
        found = [at for one in stops if one and (at := text.find(one, max(before - len(one) + 1, 0))) >= 0]
        if found:
            return count, text[: min(found)]
    return None


def _logprob(token_id: int, alternatives: int) -> TokenLogprob:
    """A distribution that halves from alternative to alternative: the token drawn is always the likeliest."""
    top = tuple(
        TopLogprob(
            token_id=(token_id + place) % (2 * len(content.WORDS)),
            token=content.token_text((token_id + place) % (2 * len(content.WORDS))).encode(),
            logprob=-0.6931471805599453 * (place + 1),
        )
        for place in range(alternatives)
    )
    text = content.token_text(token_id).encode()
    return TokenLogprob(token_id=token_id, token=text, logprob=-0.6931471805599453, top=top)
