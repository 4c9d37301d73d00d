"""One call of the Responses API: what it goes on from, and what is left of it for the next one."""

from typing import Any

import msgspec

from router.errors import InvalidRequest
from router.http.dialects.openai.fields import MAX_MESSAGES
from router.http.dialects.responses.answers import Response
from router.http.dialects.responses.schema import Item, ResponsesRequest
from router.http.dialects.responses.translate import wish_of
from router.http.dialects.shared.wish import Wish
from router.state.rows import ResponseRow

_ITEMS = msgspec.json.Decoder(list[Item])
_ANY_ITEMS = msgspec.json.Decoder(list[dict[str, Any]])


class _Said(msgspec.Struct):
    output: msgspec.Raw


class ResponseTurn:
    """See ``router.http.dialects.dialect.Turn``. ``keeps``: whether this router keeps answers at all."""

    def __init__(self, asked: ResponsesRequest, *, keeps: bool) -> None:
        self.asked = asked
        self.previous = asked.previous_response_id or ""
        self.store = keeps and asked.store is not False
        self._before: list[dict[str, Any]] = []
        self._answer: Response | None = None

    def resumed(self, earlier: ResponseRow) -> Wish:
        """What is asked, behind what was said before; instructions are not carried over, as at OpenAI.

        Raises InvalidRequest.
        """
        output = msgspec.json.decode(earlier.response, type=_Said).output
        self._before = [one for raw in (earlier.items, output) for one in _ANY_ITEMS.decode(raw)]
        new = 1 if isinstance(self.asked.input, str) else len(self.asked.input)
        if len(self._before) + new > MAX_MESSAGES:
            raise InvalidRequest(
                f"The conversation has {len(self._before) + new} items; at most {MAX_MESSAGES} are served",
                param="previous_response_id",
            )
        return wish_of(self.asked, [item for raw in (earlier.items, output) for item in _ITEMS.decode(raw)])

    def ended(self, answer: Response) -> None:
        """The answer, as it goes out."""
        self._answer = answer

    def kept(self) -> ResponseRow | None:
        """What is to be kept of it; None: nothing. Its time is for whoever keeps it to say."""
        if self._answer is None or not self.store:
            return None
        return ResponseRow(
            response_id=self._answer.id,
            response=msgspec.Raw(msgspec.json.encode(self._answer)),
            items=msgspec.Raw(msgspec.json.encode([*self._before, *self._given(self._answer.id)])),
        )

    def _given(self, response_id: str) -> list[dict[str, Any]]:
        """What came with this call, as items, each with a name."""
        given = self.asked.input
        if isinstance(given, str):
            content = [{"type": "input_text", "text": given}]
            items: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": content}]
        else:
            items = [_without_nothing(msgspec.to_builtins(one)) for one in given]
        start = len(self._before)
        return [
            {"id": f"in_{response_id}_{start + number}", **item, "type": item.get("type") or "message"}
            for number, item in enumerate(items)
        ]


def _without_nothing(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given, in parts too."""
    return {
        name: [_without_nothing(one) if isinstance(one, dict) else one for one in value]
        if isinstance(value, list)
        else value
        for name, value in fields.items()
        if value is not None
    }
