"""One job against one server: ask, read the stream, turn chunks into deltas."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import msgspec

from protos.contract.request import Job
from protos.contract.stream import Delta, FinishReason, RefusalCode, TokenLogprob, Usage
from protos.contract.tools import ToolCallDelta
from workers.engines.base import Refused
from workers.engines.openai_compatible.answers.chunks import Chunk, parse_chunk, whole_answer
from workers.engines.openai_compatible.answers.sse import DONE, SseError, SseParser
from workers.engines.openai_compatible.refusals import MAX_ERROR_BYTES, refusal
from workers.engines.openai_compatible.requests import request_of
from workers.engines.openai_compatible.server_client import Reply, Unreachable
from workers.engines.openai_compatible.upstream import Upstream

MAX_WHOLE_BYTES = 8 * 2**20
"""Of an answer that is not streamed."""


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
    echoed: bool = False
    called: bool = False  # there are calls in it
    taken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None

    def delta(
        self,
        text: str = "",
        tokens: int = 0,
        reason: FinishReason | None = None,
        *,
        reasoning: str = "",
        logprobs: tuple[TokenLogprob, ...] = (),
        tool_calls: tuple[ToolCallDelta, ...] = (),
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
            reasoning=reasoning,
            token_count=tokens,
            text_tokens=self.position,
            finish_reason=reason,
            usage=usage if reason is not None else None,
            logprobs=logprobs,
            error=error,
            tool_calls=tool_calls,
            echo=self._echo() if at == 0 and not self.echoed else "",
        )

    def _echo(self) -> str:
        """The prompt, with the first delta, when it is to be repeated."""
        self.echoed = True
        return self.job.prompt if self.job.sampling.echo and isinstance(self.job.prompt, str) else ""

    def broke_off(self, error: str) -> Delta:
        """The last delta of an answer that did not come to its end."""
        return self.delta(reason=FinishReason.ERROR, error=error)


async def deltas_of(running: Running) -> AsyncGenerator[Delta, None]:
    """Everything the server says to one job, ending in one final delta. Raises Refused before the first chunk.

    Closing this generator closes the connection, which is how servers learn that nobody listens any more.
    """
    upstream, job = running.upstream, running.job
    room = upstream.loaded.context_tokens - running.prompt_tokens - 1
    try:
        path, body = request_of(job, model=upstream.model, flavor=upstream.flavor, room_tokens=room)
    except ValueError as error:  # a schema, or arguments of the template
        raise Refused(RefusalCode.INVALID, f"it is no JSON: {error}", parameter="response_format") from None
    try:
        async with upstream.client.stream(path, msgspec.json.encode(body)) as reply:
            if reply.status != 200:
                said = (await reply.body(MAX_ERROR_BYTES)).decode(errors="replace")
                raise refusal(reply.status, said, upstream, running.prompt_tokens)
            if not running.taken.done():
                running.taken.set_result(None)
            async for delta in _deltas(running, _chunks(reply)):
                yield delta
    except Unreachable as error:
        reason = f"the server at {upstream.base_url} broke off: {error}"
        if not running.taken.done():
            raise Refused(RefusalCode.ENGINE_FAILED, reason) from None
        yield running.broke_off(reason)
    except SseError as error:
        yield running.broke_off(str(error))


async def _chunks(reply: Reply) -> AsyncIterator[Chunk]:
    """The stream's chunks; one alone where the server does not stream, or answers with a page."""
    if reply.content_type == "application/json":
        yield _whole(await reply.body(MAX_WHOLE_BYTES))
        return
    if reply.content_type in ("text/html", "application/xhtml+xml"):
        page = " ".join((await reply.body(MAX_ERROR_BYTES)).decode(errors="replace").split())
        yield Chunk(error=f"a page of {reply.content_type} instead of an answer: {page[:100]!r}")
        return
    parser = SseParser()
    async for part in reply.parts():
        for data, is_error in parser.feed(part):
            if data == DONE:
                yield _DONE
                return
            chunk = parse_chunk(data)
            yield chunk if not is_error or chunk.error else Chunk(error=data[:300].decode(errors="replace"))


_DONE = Chunk()
"""Told by identity: the server ended the stream itself."""


def _whole(body: bytes) -> Chunk:
    try:
        return whole_answer(json.loads(body))
    except (ValueError, RecursionError):
        return Chunk(error="the server answered with something that calls itself JSON and is none")


async def _deltas(running: Running, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Delta]:
    reason: FinishReason | None = None
    usage: Usage | None = None
    async for chunk in chunks:
        if chunk.error:
            yield running.broke_off(f"the server said: {chunk.error}")
            return
        if chunk is _DONE:
            # some end a stream without a reason: what was said is the answer
            reason = reason or (FinishReason.STOP if running.position else None)
            break
        reason = chunk.finish_reason or reason
        usage = chunk.usage or usage
        # A chunk is a token unless its log-probabilities tell otherwise.
        tokens = len(chunk.logprobs) or (1 if chunk.text or chunk.reasoning or chunk.tool_calls else 0)
        if tokens:
            running.called = running.called or bool(chunk.tool_calls)
            yield running.delta(
                chunk.text, tokens, reasoning=chunk.reasoning, logprobs=chunk.logprobs, tool_calls=chunk.tool_calls
            )
    if reason is None:
        yield running.broke_off("the server ended the stream without a finish reason")
        return
    # Tokens that came without text of their own (the end token, parts of characters) are counted here.
    late = max(0, usage.completion_tokens - running.position) if usage else 0
    if usage is not None and usage.completion_tokens < running.position:
        usage = Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=running.position,
            cached_tokens=usage.cached_tokens,
        )
    if running.called and reason is FinishReason.STOP:
        reason = FinishReason.TOOL_CALLS  # some say stop all the same
    yield running.delta(tokens=late, reason=reason, usage=usage)
