"""One whole answer, put together from its chunks."""

from dataclasses import dataclass, field

from protos.contract.stream import FinishReason, TokenLogprob, Usage
from protos.contract.tools import ToolCall, ToolCallDelta
from router.domain.answer import AnswerHead, Chunk, Continuation
from router.errors import WorkerFailed


@dataclass(slots=True)
class Collected:
    """Add chunks until one has a finish reason."""

    head: AnswerHead
    _texts: list[str] = field(default_factory=list)
    _thoughts: list[str] = field(default_factory=list)
    _calls: dict[int, list[ToolCallDelta]] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    echo: str = ""
    echo_logprobs: tuple[TokenLogprob, ...] = ()
    last: Chunk | None = None
    usage: Usage = field(default_factory=Usage)

    def add(self, chunk: Chunk) -> None:
        """New output, or the end."""
        self._texts.append(chunk.text)
        self._thoughts.append(chunk.reasoning)
        self.logprobs.extend(chunk.logprobs)
        for call in chunk.tool_calls:
            self._calls.setdefault(call.index, []).append(call)
        if chunk.echo:
            self.echo, self.echo_logprobs = chunk.echo, chunk.echo_logprobs
        if chunk.finish_reason is not None:
            self.last = chunk

    @property
    def text(self) -> str:
        """Without what was thought, called or repeated."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """What the model thought before."""
        return "".join(self._thoughts)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """In their order."""
        return tuple(
            ToolCall(
                id=next((one.id for one in pieces if one.id), ""),
                name="".join(one.name for one in pieces),
                arguments="".join(one.arguments for one in pieces),
            )
            for _, pieces in sorted(self._calls.items())
        )

    @property
    def finish_reason(self) -> FinishReason:
        """Raises WorkerFailed when there is no end."""
        if self.last is None or self.last.finish_reason is None:
            raise WorkerFailed("the answer broke off without an end")
        return self.last.finish_reason

    @property
    def stopped_by(self) -> str:
        """The stop string that ended it."""
        return "" if self.last is None else self.last.stopped_by

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """Of an embedding."""
        return () if self.last is None else self.last.vectors

    @property
    def continuations(self) -> tuple[Continuation, ...]:
        """Its moves from worker to worker."""
        return () if self.last is None else self.last.continuations
