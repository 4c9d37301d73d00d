"""Answers of the Responses API are kept for a time, each for its asker: to go on from, to read again, to erase."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.stream import FinishReason, Usage
from protos.contract.tools import ToolCall, ToolCallDelta
from router.config import HttpConfig
from router.domain.answer import Chunk
from router.domain.clock import SystemClock
from router.domain.principal import Principal, Scope
from router.http.dialects.responses import kept
from router.http.dialects.responses.answers import Response
from router.http.dialects.responses.kept import KeptResponses
from router.http.dialects.responses.turn import ResponseTurn
from router.state.backend import StoreFailed
from router.state.rows import ResponseRow
from tests.support.http_surface import WORDS, OpenAuthenticator, Surface, events, surface

SAID = "".join(WORDS)
CALLS = (
    Chunk(reasoning="hm", token_count=1),
    Chunk(tool_calls=(ToolCallDelta(index=0, id="c1", name="weather", arguments='{"at":"Oslo"}'),), token_count=1),
    Chunk(finish_reason=FinishReason.TOOL_CALLS, usage=Usage(prompt_tokens=9, completion_tokens=5)),
)
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


class ByKey(OpenAuthenticator):
    """Takes the bearer's word for the id of its key."""

    async def authenticate(self, authorization: str | None, scope: Scope, *, counted: bool = True) -> Principal:
        return Principal(key_id=(authorization or "").removeprefix("Bearer "))


async def ask(on: Surface, key: str = "", method: str = "POST", path: str = "", **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with on.client() as client:
        if method != "POST":
            return await client.request(method, f"/v1/responses{path}", headers=headers)
        return await client.post("/v1/responses", json={"model": "m", "input": "hi", **body}, headers=headers)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_goes_on_from_what_was_said(streamed: bool) -> None:
    """The history is the earlier call's input and answer; its instructions are not carried over."""
    on = surface()
    first = await ask(on, instructions="Rhyme.", input="one", stream=streamed)
    name = first.headers["x-request-id"]
    second = (await ask(on, instructions="Be brief.", input="two", previous_response_id=name)).json()
    assert second["previous_response_id"] == name
    await ask(on, input=[{"role": "user", "content": "three"}], previous_response_id=second["id"])
    turns = [[(one.role, one.text) for one in asked.messages] for asked in on.pipeline.requests]
    assert turns[1] == [("system", "Be brief."), ("user", "one"), ("assistant", SAID), ("user", "two")]
    assert turns[2] == [
        ("user", "one"), ("assistant", SAID), ("user", "two"), ("assistant", SAID), ("user", "three"),
    ]  # fmt: skip


async def test_a_result_goes_back_to_a_call_that_was_kept() -> None:
    """As agents do it: the result alone is sent."""
    on = surface(script=CALLS)
    first = (await ask(on, tools=[TOOL])).json()
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    await ask(on, tools=[TOOL], input=[result], previous_response_id=first["id"])
    user, assistant, tool = on.pipeline.requests[1].messages
    assert (user.text, assistant.reasoning, tool.tool_call_id, tool.text) == ("hi", "hm", "c1", "rain")
    assert assistant.tool_calls == (ToolCall(id="c1", name="weather", arguments='{"at":"Oslo"}'),)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_kept_is_what_was_answered(streamed: bool) -> None:
    on = surface()
    reply = await ask(on, input="one", stream=streamed, metadata={"a": "b"})
    name = reply.headers["x-request-id"]
    answered = reply.json() if not streamed else _completed(reply.text)
    found = await ask(on, method="GET", path=f"/{name}")
    assert found.json() == answered
    assert answered["metadata"] == {"a": "b"}
    msgspec.convert(found.json(), Response)
    items = (await ask(on, method="GET", path=f"/{name}/input_items")).json()
    assert [one["content"] for one in items["data"]] == [[{"type": "input_text", "text": "one"}]]
    assert (items["first_id"], items["has_more"]) == (items["data"][0]["id"], False)
    assert (await ask(on, method="HEAD", path=f"/{name}")).status_code == 200


def _completed(stream: str) -> Any:
    last = stream.strip().split("\n\n")[-1].split("\n", 1)[1]
    return events(last)[0]["response"]


async def test_one_key_sees_nothing_of_anothers() -> None:
    on = surface(authenticator=ByKey())
    name = (await ask(on, "k1")).json()["id"]
    for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
        assert (await ask(on, "k2", method, f"/{name}{path}")).status_code == 404
    reply = await ask(on, "k2", previous_response_id=name)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert (await ask(on, "k1", "GET", f"/{name}")).status_code == 200


async def test_erased_is_gone() -> None:
    on = surface()
    name = (await ask(on)).json()["id"]
    assert (await ask(on, method="DELETE", path=f"/{name}")).json() == {
        "id": name, "object": "response", "deleted": True,
    }  # fmt: skip
    assert (await ask(on, method="DELETE", path=f"/{name}")).status_code == 404
    assert (await ask(on, previous_response_id=name)).status_code == 400


@pytest.mark.parametrize(
    ("config", "body"), [(HttpConfig(), {"store": False}), (HttpConfig(responses_kept_s=0), {"store": True})]
)
async def test_what_is_not_to_be_kept_is_not(config: HttpConfig, body: dict[str, Any]) -> None:
    """By the client's wish, or the operator's; the answer says so."""
    on = surface(config=config)
    answer = (await ask(on, **body)).json()
    assert answer["store"] is False
    reply = await ask(on, previous_response_id=answer["id"])
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "previous_response_id")


async def test_a_conversation_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, before anything is placed."""
    monkeypatch.setattr("router.http.dialects.responses.turn.MAX_MESSAGES", 3)
    on = surface()
    first = (await ask(on)).json()["id"]
    second = (await ask(on, previous_response_id=first)).json()["id"]
    reply = await ask(on, previous_response_id=second)
    assert (reply.status_code, len(on.pipeline.requests)) == (400, 2)
    assert "has 5 items; at most 3" in reply.json()["error"]["message"]


class OddStore:
    """Fails, or never answers."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.asked = 0

    async def keep_response(self, owner: str, row: ResponseRow, limit_bytes: int, now: float) -> bool:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        await asyncio.Event().wait()
        return True

    async def response(self, owner: str, response_id: str, now: float) -> ResponseRow | None:
        raise AssertionError("nobody asks it that here")

    async def forget_response(self, owner: str, response_id: str, now: float) -> bool:
        raise AssertionError("nobody asks it that here")


class Answered(ResponseTurn):
    """One whose answer is there."""

    def __init__(self) -> None:
        pass

    def kept(self) -> ResponseRow:
        return ResponseRow(response_id="resp_1", response=msgspec.Raw(b"{}"), items=msgspec.Raw(b"[]"))


async def test_a_store_that_fails_or_hangs_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those that wait for it pile up."""
    failing = OddStore(StoreFailed("the disk is full"))
    await KeptResponses(store=failing, clock=SystemClock(), config=HttpConfig()).keep(Principal(), Answered())
    monkeypatch.setattr(kept, "KEPT_WITHIN_S", 0.05)
    hanging = OddStore()
    keeping = KeptResponses(store=hanging, clock=SystemClock(), config=HttpConfig())
    await asyncio.gather(*(keeping.keep(Principal(), Answered()) for _ in range(kept.WAITING + 5)))
    assert (failing.asked, hanging.asked) == (1, kept.WAITING)
