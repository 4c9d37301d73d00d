"""From counts to text: what a simulated job has said so far, and the deltas that say it."""

import json
from dataclasses import dataclass
from typing import Any

from protos.contract.request import Job
from protos.contract.stream import Delta, FinishReason, RefusalCode, TokenLogprob, TopLogprob, Usage
from workers.engines.base import Refused
from workers.engines.simulated import content
from workers.engines.simulated.batch.sequence import Sequence_
from workers.engines.simulated.scripted import Piece, script_of, what_is_left

THOUGHTS = 6
"""Output tokens that are thoughts, of a chat whose template is told to have the model think."""

_HALF = 0.6931471805599453
"""Log-probability of a half."""


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
    stopped_by: str = ""
    script: tuple[Piece, ...] = ()  # where the answer is not words
    thoughts: int = 0  # output tokens that are thoughts, of the whole answer
    silent: bool = False  # the prompt's echo is all that is wanted
    said: int = 0  # tokens of this attempt delivered
    text_said: int = 0  # characters, where a stop string cuts the text

    def speak(self, produced: int, end: FinishReason | None, error: str = "") -> Delta | None:
        """What is new up to ``produced`` tokens; None when that is nothing."""
        if self.silent:
            if end is None:
                return None
            produced, end = 0, end if end is FinishReason.ABORTED else FinishReason.LENGTH
        count = produced - self.said
        if count <= 0 and end is None:
            return None
        ids = tuple(content.token_at(self.key, self.start + at) for at in range(self.said, produced))
        said = self._script(produced) if self.script else self._words(ids, produced)
        position, self.said = self.said, produced
        sampling = self.job.sampling
        return Delta(
            **said,
            **(self._echo() if position == 0 and sampling.echo else {}),
            stopped_by=self.stopped_by if end is FinishReason.STOP else "",
            request_id=self.job.request_id,
            attempt=self.job.attempt,
            position=position,
            token_ids=ids if self.job.return_token_ids and not self.script else (),
            token_count=count,
            text_tokens=produced,
            finish_reason=end,
            usage=self.usage(produced) if end is not None else None,
            logprobs=tuple(_logprob(one, sampling.top_logprobs) for one in ids)
            if sampling.logprobs and not self.script
            else (),
            error=error,
        )

    def usage(self, produced: int) -> Usage:
        """Exact counts."""
        sequence = self.sequence
        return Usage(
            prompt_tokens=sequence.prompt_tokens, completion_tokens=produced, cached_tokens=sequence.cached_tokens
        )

    def _script(self, produced: int) -> dict[str, Any]:
        new = self.script[self.said : produced]
        raw = "".join(one.raw for one in new)
        calls = tuple(one.call for one in new if one.call is not None)
        if self.job.tooling is not None and self.reason is not FinishReason.STOP:
            return {"raw": raw, "tool_calls": calls}
        return {"text": raw}

    def _words(self, ids: tuple[int, ...], produced: int) -> dict[str, Any]:
        thinking = max(0, min(self.thoughts - self.start - self.said, len(ids)))
        if not thinking:
            return {"text": self._text(ids, produced)}
        texts = [content.token_text(one) for one in ids]
        said = {"reasoning": "".join(texts[:thinking]), "text": "".join(texts[thinking:])}
        return {**said, "raw": "".join(texts)}

    def _echo(self) -> dict[str, Any]:
        prompt = self.job.prompt
        pieces = content.tokenize(prompt) if isinstance(prompt, str) else [content.token_text(one) for one in prompt]
        if not self.job.sampling.logprobs:
            return {"echo": "".join(pieces)}
        told = tuple(
            TokenLogprob(token_id=place, token=one.encode(), logprob=-_HALF if place else 0.0)
            for place, one in enumerate(pieces)
        )
        return {"echo": "".join(pieces), "echo_logprobs": told}

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
    script = script_of(job)
    if script:
        calls = any(one.call is not None for one in script)
        script = what_is_left(script, job.continue_from.text) if job.continue_from is not None else script
        if len(script) <= limit:
            length, reason = len(script), FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    elif not job.sampling.ignore_eos:
        natural = max(content.answer_length(key, mu, sigma) - start, job.sampling.min_tokens - start, 1)
        if natural <= limit:
            length, reason = natural, FinishReason.STOP
    stop_text, stopped_by = None, ""
    if job.sampling.stop and not script:
        cut = _stopped(key, start, length, job.sampling.stop)
        if cut is not None:
            length, stop_text, stopped_by = cut
            reason = FinishReason.STOP
    silent = job.sampling.echo and job.sampling.max_tokens == 0 and room > 0
    sequence = Sequence_(
        key=(job.request_id, job.attempt),
        prompt_tokens=prompt_tokens + start,
        output_tokens=1 if silent else length,
        expected_tokens=job.expected_output_tokens or length,
        block_hashes=job.block_hashes,
        block_tokens=max(prompt_tokens // len(job.block_hashes), 1) if job.block_hashes else 64,
        priority=job.priority,
    )
    thoughts = THOUGHTS if _thinks(job) else 0
    return Speaker(job, key, start, sequence, reason, stop_text, stopped_by, script, thoughts, silent)


def _thinks(job: Job) -> bool:
    """Whether the chat's template is told to have the model think."""
    if not job.messages or not job.template_arguments:
        return False
    try:
        return json.loads(job.template_arguments).get("enable_thinking") is True
    except (ValueError, AttributeError):
        raise Refused(RefusalCode.INVALID, "the template's arguments are no JSON object") from None


def _stopped(key: int, start: int, length: int, stops: tuple[str, ...]) -> tuple[int, str, str] | None:
    """Tokens and text up to the first stop string, and which one; None when none occurs."""
    text = ""
    for count in range(1, length + 1):
        before = len(text)
        text += content.token_text(content.token_at(key, start + count - 1))
        found = [(at, one) for one in stops if one and (at := text.find(one, max(before - len(one) + 1, 0))) >= 0]
        if found:
            at, stop = min(found)
            return count, text[:at], stop
    return None


def _logprob(token_id: int, alternatives: int) -> TokenLogprob:
    """A distribution that halves from alternative to alternative: the token drawn is always the likeliest."""
    top = tuple(
        TopLogprob(
            token_id=(token_id + place) % (2 * len(content.WORDS)),
            token=content.token_text((token_id + place) % (2 * len(content.WORDS))).encode(),
            logprob=-_HALF * (place + 1),
        )
        for place in range(alternatives)
    )
    text = content.token_text(token_id).encode()
    return TokenLogprob(token_id=token_id, token=text, logprob=-_HALF, top=top)
