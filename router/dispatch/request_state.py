"""One request on its way, as its client sees it: the attempt under way, what the client has, who answers. Pure state.

``router.pipeline`` moves it along. What it avoids, how often it was tried and where it goes next is the scheduler's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from protos.contract.ids import RequestId
from protos.contract.stream import Accepted, Delta, FinishReason, TokenLogprob, Usage
from protos.contract.tools import ToolCallDelta
from router.dispatch.answer_memory import AnswerAccount
from router.dispatch.attempt import Attempt
from router.dispatch.transcript import Transcript
from router.domain.answer import AnswerHead, Chunk, Continuation, Pour
from router.domain.placement import Ending, Outcome, Placed
from router.domain.request import InferenceRequest
from router.domain.stream import AttemptEvent


class Progress(Struct, frozen=True, kw_only=True, gc=False):
    """Waiting events as one: new output for the client, and what ended the attempt, well or badly."""

    text: str = ""
    reasoning: str = ""
    token_count: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    echo: str = ""
    echo_logprobs: tuple[TokenLogprob, ...] = ()
    final: Delta | None = None  # the attempt ended as the client asked
    trouble: AttemptEvent | None = None  # it ended otherwise

    @property
    def chunk(self) -> Chunk | None:
        """The new output; None when there is none."""
        if not (self.token_count or self.text or self.reasoning or self.tool_calls or self.echo):
            return None
        return Chunk(
            text=self.text,
            reasoning=self.reasoning,
            token_count=self.token_count,
            logprobs=self.logprobs,
            tool_calls=self.tool_calls,
            echo=self.echo,
            echo_logprobs=self.echo_logprobs,
        )


@dataclass(slots=True)
class RequestState:
    """The state of one request, over all its attempts."""

    request: InferenceRequest
    account: AnswerAccount
    transcript: Transcript = field(default_factory=Transcript)
    attempt: Attempt | None = None
    head: AnswerHead | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    last_failure: str = ""
    last_placed: Placed | None = None
    early: list[AttemptEvent] = field(default_factory=list)  # came together with the acceptance
    echoed: bool = False  # the client has its prompt back
    finished: bool = False
    pour: Pour | None = None  # the client's short way for plain text, once its stream has begun

    @property
    def request_id(self) -> RequestId:
        """Shorthand."""
        return self.request.request_id

    @property
    def tokens_left(self) -> int | None:
        """Output tokens the client may still be sent; None when it set no limit."""
        limit = self.request.sampling.max_tokens
        return None if limit is None else limit - self.transcript.settled_tokens

    def failed(self, placed: Placed, reason: str) -> None:
        """An attempt came to nothing: a continuation will say why."""
        self.last_failure = f"{placed.node}: {reason}"

    def accepted(self, placed: Placed, event: Accepted, tokenizer_fingerprint: str) -> Continuation | None:
        """A worker took the request. Returns the move when another one had taken it before: the client was told of
        that one, even if no token came.
        """
        move = None
        if self.last_placed is not None:
            move = self._move(self.last_placed, placed)
            self.transcript.moves.append(move)
        self.transcript.fingerprint = tokenizer_fingerprint
        self.last_placed = placed
        self.cached_tokens = event.cached_tokens
        if self.head is None:
            self.prompt_tokens = event.prompt_tokens
            self.head = AnswerHead(
                request_id=self.request.request_id,
                worker_id=placed.worker_id,
                node=placed.node,
                model=placed.model,
                quantization=placed.quantization,
                prompt_tokens=event.prompt_tokens,
            )
        return move

    def absorb(self, events: list[AttemptEvent], now: float) -> Progress:
        """Merge waiting deltas, up to the one that ends the attempt. ``now``: seconds on the router's clock."""
        text: list[str] = []
        reasoning: list[str] = []
        logprobs: list[TokenLogprob] = []
        calls: list[ToolCallDelta] = []
        echo: Delta | None = None
        tokens = 0
        trouble: AttemptEvent | None = None
        final: Delta | None = None
        for event in events:
            if not isinstance(event, Delta):
                trouble = None if isinstance(event, Accepted) else event
            elif event.finish_reason in (FinishReason.ERROR, FinishReason.ABORTED):
                trouble = event
            else:
                self._note_first_token(event, now)
                logprobs.extend(self.transcript.absorb(event))
                text.append(event.text)
                reasoning.append(event.reasoning)
                calls.extend(event.tool_calls)
                if event.echo and not self.echoed:
                    self.echoed, echo = True, event
                tokens += event.token_count
                final = event if event.finish_reason is not None else None
            if trouble is not None or final is not None:
                break
        return Progress(
            text="".join(text),
            reasoning="".join(reasoning),
            token_count=tokens,
            logprobs=tuple(logprobs),
            tool_calls=tuple(calls),
            echo="" if echo is None else echo.echo,
            echo_logprobs=() if echo is None else echo.echo_logprobs,
            final=final,
            trouble=trouble,
        )

    def passes(self, delta: Delta) -> bool:
        """Take plain text the short way: straight from the session's reader to the client. False: it cannot go there
        now, or something waits for it.
        """
        if not delta.token_count or self.transcript.holds_back or self.pour is None:
            return False
        if not self.pour(delta.text, delta.token_count):
            return False
        self.transcript.absorb_plain(delta)
        return True

    def short_way(self) -> Callable[[Delta], bool] | None:
        """The way of what follows: the short one from the attempt's second output on."""
        begun = self.pour is not None and self.attempt is not None and self.attempt.first_token_at is not None
        return self.passes if begun else None

    def last_chunk(self, progress: Progress, final: Delta) -> Chunk:
        """The chunk that ends the answer, with the usage of all attempts together."""
        counted = final.usage or Usage()
        return Chunk(
            text=progress.text,
            reasoning=progress.reasoning,
            token_count=progress.token_count,
            logprobs=progress.logprobs,
            tool_calls=progress.tool_calls,
            echo=progress.echo,
            echo_logprobs=progress.echo_logprobs,
            vectors=final.vectors,
            stopped_by=final.stopped_by,
            finish_reason=final.finish_reason,
            usage=Usage(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self._charged(counted.completion_tokens),
                cached_tokens=min(counted.cached_tokens, self.prompt_tokens),
            ),
            continuations=tuple(self.transcript.moves),
        )

    def _charged(self, tokens: int) -> int:
        """Output tokens of the whole answer; servers may count end markers, the client pays for what it asked for."""
        limit, charged = self.request.sampling.max_tokens, self.transcript.settled_tokens + tokens
        return charged if limit is None else min(charged, limit)

    def cut_at_limit(self) -> Chunk:
        """The last chunk when every token the client asked for is with it and only the final delta was lost."""
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.transcript.settled_tokens)
        return Chunk(finish_reason=FinishReason.LENGTH, usage=usage, continuations=tuple(self.transcript.moves))

    def outcome(self, attempt: Attempt, ending: Ending, usage: Usage | None, now: float) -> Outcome:
        """What came of an attempt, for placement to learn from; worker's counts where it sent them."""
        first = attempt.first_token_at
        return Outcome(
            finished_at=now,
            ttft_s=None if first is None else first - attempt.started_at,
            e2e_s=now - attempt.started_at,
            prompt_tokens=usage.prompt_tokens if usage else self.prompt_tokens,
            cached_tokens=usage.cached_tokens if usage else self.cached_tokens,
            completion_tokens=usage.completion_tokens if usage else self.transcript.output_tokens,
            ending=ending,
        )

    def _move(self, old: Placed, new: Placed) -> Continuation:
        return Continuation(
            from_node=old.node,
            to_node=new.node,
            from_quantization=old.quantization,
            to_quantization=new.quantization,
            at_token=self.transcript.settled_tokens,
            reason=self.last_failure,
        )

    def _note_first_token(self, delta: Delta, now: float) -> None:
        if self.attempt is not None and self.attempt.first_token_at is None and delta.token_count:
            self.attempt.first_token_at = now
