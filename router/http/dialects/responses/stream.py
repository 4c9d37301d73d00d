"""An answer as the Responses API streams it: one item under way at a time, each told again whole when it is done."""

from collections.abc import Callable
from dataclasses import dataclass, field

from protos.contract.stream import FinishReason, TokenLogprob, Usage
from protos.contract.tools import ToolCall, ToolCallDelta
from router.domain.answer import Chunk
from router.http.dialects.openai.logprobs import chat_logprobs
from router.http.dialects.responses import events as told
from router.http.dialects.responses.answers import (
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Response,
    Status,
    call_item,
    message_item,
)


@dataclass(slots=True)
class _Open:
    """The item under way. ``kind``: text, thought, or call with its number."""

    kind: str
    item_id: str
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


Shaped = Callable[[Status, list[OutputItem], Usage | None, Chunk], Response]
"""The response as it stands: its status, its items, its usage at the end, and the last chunk."""


class EventWriter:
    """Of one answer."""

    def __init__(self, request_id: str, shaped: Shaped) -> None:
        self._id = request_id
        self._shaped = shaped
        self._sequence = -1
        self._items: list[OutputItem] = []
        self._open: _Open | None = None

    def opening(self) -> bytes:
        """That it began."""
        begun = self._shaped("in_progress", [], None, Chunk())
        return told.written(told.Created(sequence_number=self._next(), response=begun)) + told.written(
            told.InProgress(sequence_number=self._next(), response=begun)
        )

    def chunk(self, chunk: Chunk) -> bytes:
        """Thought before text before calls."""
        written = b""
        if chunk.reasoning:
            written += self._thought(chunk.reasoning)
        if chunk.text or chunk.logprobs:
            written += self._said(chunk)
        for call in chunk.tool_calls:
            written += self._called(call)
        return written

    def ending(self, chunk: Chunk, usage: Usage) -> bytes:
        """What is still new, the last item's end, and the response's."""
        cut = chunk.finish_reason is FinishReason.LENGTH
        written = self.chunk(chunk) + self._close("incomplete" if cut else "completed")
        whole = self._shaped("incomplete" if cut else "completed", self._items, usage, chunk)
        end = told.Incomplete if cut else told.Completed
        return written + told.written(end(sequence_number=self._next(), response=whole))

    # -- items ------------------------------------------------------------------------------------------

    def _said(self, chunk: Chunk) -> bytes:
        written = self._begin("text", "msg")
        item = self._current
        item.pieces.append(chunk.text)
        item.logprobs.extend(chunk.logprobs)
        return written + told.written(
            told.TextDelta(
                sequence_number=self._next(),
                item_id=item.item_id,
                output_index=len(self._items),
                delta=chunk.text,
                logprobs=chat_logprobs(chunk.logprobs).content if chunk.logprobs else [],
            )
        )

    def _thought(self, text: str) -> bytes:
        written = self._begin("thought", "rs")
        item = self._current
        item.pieces.append(text)
        return written + told.written(
            told.ReasoningDelta(
                sequence_number=self._next(), item_id=item.item_id, output_index=len(self._items), delta=text
            )
        )

    def _called(self, call: ToolCallDelta) -> bytes:
        written = self._begin(f"call {call.index}", "fc", call)
        item = self._current
        if not call.arguments:
            return written
        item.pieces.append(call.arguments)
        return written + told.written(
            told.ArgumentsDelta(
                sequence_number=self._next(),
                item_id=item.item_id,
                output_index=len(self._items),
                delta=call.arguments,
            )
        )

    def _begin(self, kind: str, prefix: str, call: ToolCallDelta | None = None) -> bytes:
        """``kind`` is under way from here; nothing to say when it is already."""
        if self._open is not None and self._open.kind == kind:
            return b""
        written = self._close("completed")
        item_id = f"{prefix}_{self._id}_{len(self._items)}"
        self._open = _Open(kind, item_id)
        if call is not None:
            self._open.call_id, self._open.name = call.id, call.name
        written += told.written(
            told.ItemAdded(sequence_number=self._next(), output_index=len(self._items), item=self._item("in_progress"))
        )
        if call is None:
            part = OutputText(text="") if kind == "text" else ReasoningText(text="")
            written += told.written(
                told.PartAdded(sequence_number=self._next(), item_id=item_id, output_index=len(self._items), part=part)
            )
        return written

    def _close(self, status: Status) -> bytes:
        item = self._open
        if item is None:
            return b""
        done = self._done(item)
        whole = self._item(status)
        written = done + told.written(
            told.ItemDone(sequence_number=self._next(), output_index=len(self._items), item=whole)
        )
        self._items.append(whole)
        self._open = None
        return written

    def _done(self, item: _Open) -> bytes:
        """The item's text once more, whole."""
        index, text = len(self._items), item.text
        if item.kind.startswith("call"):
            return told.written(
                told.ArgumentsDone(
                    sequence_number=self._next(), item_id=item.item_id, output_index=index, name=item.name,
                    arguments=text or "{}",
                )
            )  # fmt: skip
        logprobs = chat_logprobs(tuple(item.logprobs)).content
        if item.kind == "text":
            last = told.written(
                told.TextDone(
                    sequence_number=self._next(), item_id=item.item_id, output_index=index, text=text,
                    logprobs=logprobs,
                )
            )  # fmt: skip
            part: OutputText | ReasoningText = OutputText(text=text, logprobs=logprobs)
        else:
            last = told.written(
                told.ReasoningDone(sequence_number=self._next(), item_id=item.item_id, output_index=index, text=text)
            )
            part = ReasoningText(text=text)
        return last + told.written(
            told.PartDone(sequence_number=self._next(), item_id=item.item_id, output_index=index, part=part)
        )

    def _item(self, status: Status) -> OutputItem:
        item = self._current
        begins = status == "in_progress"
        if item.kind == "text":
            if begins:
                return MessageItem(id=item.item_id, status=status, content=[])
            return message_item(item.item_id, item.text, tuple(item.logprobs), status)
        if item.kind == "thought":
            content = [] if begins else [ReasoningText(text=item.text)]
            return ReasoningItem(id=item.item_id, status=status, content=content)
        return call_item(item.item_id, ToolCall(id=item.call_id, name=item.name, arguments=item.text), status)

    @property
    def _current(self) -> _Open:
        assert self._open is not None
        return self._open

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
