"""``POST /v1/responses``."""

from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import UNSET

from protos.contract.stream import FinishReason, Usage
from router.domain.answer import Chunk
from router.errors import AllsortsError
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Call, Told
from router.http.dialects.openai.sse import SIGN_OF_LIFE
from router.http.dialects.responses.answers import (
    IncompleteDetails,
    OutputItem,
    ReasoningItem,
    ReasoningText,
    Response,
    Status,
    call_item,
    message_item,
    usage_body,
)
from router.http.dialects.responses.events import Failure, written
from router.http.dialects.responses.schema import ResponsesRequest
from router.http.dialects.responses.stream import EventWriter
from router.http.dialects.responses.translate import wish_of
from router.http.dialects.responses.turn import ResponseTurn
from router.http.dialects.shared.disclosure import disclosure
from router.http.server.decoding import BodyDecoder
from router.http.server.errors import error_body
from router.http.server.exchange import EVENT_STREAM


class OpenAIResponses:
    """See ``Dialect``."""

    name = "openai.responses"
    id_prefix = "resp"
    stream_type = EVENT_STREAM
    sign_of_life = SIGN_OF_LIFE
    any_type = False

    def __init__(self, *, strict: bool, keeps: bool) -> None:
        self._decoder = BodyDecoder(ResponsesRequest, strict=strict)
        self._keeps = keeps

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._decoder.decode(body)
        turn = ResponseTurn(asked, keeps=self._keeps)
        return Call(
            wish=wish_of(asked),
            stream=bool(asked.stream),
            writing=partial(ResponseWriter, turn=turn),
            ignored=ignored,
            turn=turn,
        )

    def error(self, error: AllsortsError) -> bytes:
        """``{"error": …}``."""
        return error_body(error)

    def error_event(self, error: AllsortsError) -> bytes:
        """An event of its own type."""
        return written(Failure(sequence_number=0, code=error.code, message=error.message, param=error.param))


class ResponseWriter:
    """See ``Writer``."""

    def __init__(self, told: Told, turn: ResponseTurn) -> None:
        self._told = told
        self._turn = turn
        self._asked = turn.asked
        self._events = EventWriter(told.request_id, self._shaped)

    def opening(self) -> bytes:
        """``response.created`` and ``response.in_progress``."""
        return self._events.opening()

    def chunk(self, index: int, chunk: Chunk) -> bytes:  # noqa: ARG002 - there is one answer
        """Deltas of items, and where items begin and end."""
        return self._events.chunk(chunk)

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:  # noqa: ARG002
        """The last item's end, and the whole response once more."""
        return self._events.ending(chunk, usage)

    def closing(self, usage: Usage) -> bytes:  # noqa: ARG002
        """Nothing is left to say."""
        return b""

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """A ``response``."""
        answer = answers[0]
        status: Status = "incomplete" if answer.finish_reason is FinishReason.LENGTH else "completed"
        items: list[OutputItem] = []
        name = self._told.request_id
        if answer.reasoning:
            thought = [ReasoningText(text=answer.reasoning)]
            items.append(ReasoningItem(id=f"rs_{name}_{len(items)}", status=status, content=thought))
        if answer.text or not answer.tool_calls:
            items.append(message_item(f"msg_{name}_{len(items)}", answer.text, tuple(answer.logprobs), status))
        for call in answer.tool_calls:
            items.append(call_item(f"fc_{name}_{len(items)}", call, status))
        return msgspec.json.encode(self._shaped(status, items, usage, answer.last or Chunk()))

    def _shaped(self, status: Status, items: list[OutputItem], usage: Usage | None, last: Chunk) -> Response:
        """The response as it stands. What the request said is repeated."""
        asked, ended = self._asked, status != "in_progress"
        given = msgspec.to_builtins(asked)
        response = Response(
            id=self._told.request_id,
            created_at=self._told.created,
            completed_at=self._told.created + int(self._told.elapsed_s()) if status == "completed" else None,
            status=status,
            incomplete_details=IncompleteDetails() if status == "incomplete" else None,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            model=self._told.model,
            output=items,
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            previous_response_id=asked.previous_response_id,
            store=self._turn.store,
            metadata=asked.metadata if isinstance(asked.metadata, dict) else {},
            reasoning={"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            temperature=1.0 if asked.temperature is None else asked.temperature,
            text={"format": _without_nothing((given["text"] or {}).get("format")) or {"type": "text"}},
            tool_choice=asked.tool_choice if isinstance(asked.tool_choice, str) else given["tool_choice"] or "auto",
            tools=[_tool(one) for one in given["tools"] or ()],
            top_p=1.0 if asked.top_p is None else asked.top_p,
            usage=None if usage is None else usage_body(usage),
            allsorts=disclosure(self._told.head, last.continuations) if ended else UNSET,
        )
        if ended:
            self._turn.ended(response)
        return response


def _without_nothing(fields: dict[str, object] | None) -> dict[str, object]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _tool(given: dict[str, object]) -> dict[str, object]:
    """As OpenAI repeats one: with its parameters, whether they were given or not."""
    return {"strict": False, "parameters": {}, "description": None, **_without_nothing(given)}
