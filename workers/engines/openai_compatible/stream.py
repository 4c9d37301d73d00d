"""One job against one server: ask, read the stream, turn chunks into deltas."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from protos.contract.request import Job
from protos.contract.stream import Delta, FinishReason, RefusalCode, TokenLogprob, Usage
from workers.engines.base import Refused
from workers.engines.openai_compatible.chunks import Chunk, error_line, parse_chunk, request_of
from workers.engines.openai_compatible.sse import DONE, SseError, SseParser
from workers.engines.openai_compatible.upstream import Upstream

TOKENS_PER_BYTE = 0.3
"""Rough, for English and code; replaced by the server's own counts at the end of each request."""

MAX_ERROR_BYTES = 64 * 1024

CONTEXT_PHRASES = ("context", "too long", "maximum length", "max_model_len", "exceed")


def estimated_prompt_tokens(job: Job) -> int:
    """About how many tokens the prompt has."""
    if not isinstance(job.prompt, str):
        return len(job.prompt)
    continued = job.continue_from.text if job.continue_from else ""
    texts = [one.content for one in job.messages] or [job.prompt]
    return max(
        1, int(TOKENS_PER_BYTE * sum(len(text.encode()) for text in (*texts, continued))) + 4 * len(job.messages)
    )


def refusal(status: int, body: str, upstream: Upstream, prompt_tokens: int) -> Refused:
    """A server's 4xx or 5xx as the reason why the job is not taken."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = {"error": " ".join(body.split())[:200] or f"status {status}"}
    line = error_line(parsed)
    if status in (400, 413, 422) and any(phrase in line.lower() for phrase in CONTEXT_PHRASES):
        # llama-server tells its counts; elsewhere they are in the words alone.
        error = parsed.get("error") if isinstance(parsed, dict) else None
        told: dict[str, Any] = error if isinstance(error, dict) else {}
        return Refused(
            RefusalCode.CONTEXT_LENGTH,
            line,
            prompt_tokens=int(told.get("n_prompt_tokens") or prompt_tokens),
            context_tokens=int(told.get("n_ctx") or upstream.loaded.context_tokens),
        )
    if status in (400, 413, 422):
        return Refused(RefusalCode.INVALID, line)
    if status == 404:
        return Refused(RefusalCode.MODEL_NOT_LOADED, line)
    if status in (429, 503):
        return Refused(RefusalCode.BUSY, line)
    return Refused(RefusalCode.ENGINE_FAILED, f"the server at {upstream.base_url} answered {status}: {line}")


@dataclass(slots=True)
class Running:
    """A job on its way: what has been written, and whether the server took it."""

    job: Job
    upstream: Upstream
    prompt_tokens: int
    position: int = 0
    started: bool = False  # has a slot
    accepted: bool = False  # submit has returned
    finished: bool = False
    taken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None

    def delta(
        self,
        text: str = "",
        tokens: int = 0,
        reason: FinishReason | None = None,
        *,
        logprobs: tuple[TokenLogprob, ...] = (),
        usage: Usage | None = None,
        error: str = "",
    ) -> Delta:
        """The next delta of this job."""
        at, self.position = self.position, self.position + tokens
        if reason is not None:
            self.finished = True
            usage = usage or Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.position)
        return Delta(
            request_id=self.job.request_id,
            attempt=self.job.attempt,
            position=at,
            text=text,
            token_count=tokens,
            text_tokens=self.position,
            finish_reason=reason,
            usage=usage if reason is not None else None,
            logprobs=logprobs,
            error=error,
        )


async def deltas_of(running: Running) -> AsyncGenerator[Delta, None]:
    """Everything the server says to one job, ending in one final delta. Raises Refused before the first chunk.

    Closing this generator closes the connection, which is how servers learn that nobody listens any more.
    """
    upstream, job = running.upstream, running.job
    room = upstream.loaded.context_tokens - running.prompt_tokens - 1
    path, body = request_of(job, model=upstream.model, flavor=upstream.flavor, room_tokens=room)
    try:
        async with upstream.client.stream("POST", path, json=body) as reply:
            if reply.status_code != 200:
                raise refusal(reply.status_code, await _short_body(reply), upstream, running.prompt_tokens)
            if not running.taken.done():
                running.taken.set_result(None)
            async for delta in _deltas(running, _chunks(reply)):
                yield delta
    except httpx.HTTPError as error:
        upstream.down = f"the server at {upstream.base_url} broke off: {str(error) or type(error).__name__}"
        if not running.taken.done():
            raise Refused(RefusalCode.ENGINE_FAILED, upstream.down) from None
        yield running.delta(reason=FinishReason.ERROR, error=upstream.down)
    except SseError as error:
        yield running.delta(reason=FinishReason.ERROR, error=str(error))


async def _short_body(reply: httpx.Response) -> str:
    body = b""
    async for part in reply.aiter_bytes():
        body += part
        if len(body) > MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES].decode(errors="replace")


async def _chunks(reply: httpx.Response) -> AsyncIterator[Chunk]:
    parser = SseParser()
    async for part in reply.aiter_bytes():
        for data in parser.feed(part):
            if data == DONE:
                return
            yield parse_chunk(data)


async def _deltas(running: Running, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Delta]:
    reason: FinishReason | None = None
    usage: Usage | None = None
    async for chunk in chunks:
        if chunk.error:
            yield running.delta(reason=FinishReason.ERROR, error=f"the server said: {chunk.error}")
            return
        reason = chunk.finish_reason or reason
        usage = chunk.usage or usage
        # A chunk is a token unless its log-probabilities tell otherwise.
        tokens = len(chunk.logprobs) or (1 if chunk.text else 0)
        if tokens:
            yield running.delta(chunk.text, tokens, logprobs=chunk.logprobs)
    if reason is None:
        yield running.delta(reason=FinishReason.ERROR, error="the server ended the stream without a finish reason")
        return
    # Tokens that came without text of their own (the end token, parts of characters) are counted here.
    late = max(0, usage.completion_tokens - running.position) if usage else 0
    if usage is not None and usage.completion_tokens < running.position:
        usage = Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=running.position,
            cached_tokens=usage.cached_tokens,
        )
    yield running.delta(tokens=late, reason=reason, usage=usage)
