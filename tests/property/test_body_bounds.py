"""Large bodies: what is just within a bound is served, what is just over it is refused by its name."""

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.request import ChatMessage
from router.config import HttpConfig
from router.errors import BodiesFull, BodyTooSlow, InvalidRequest
from router.http.server import decoding, large_bodies
from router.http.server.body_budget import BodyBudget, weight_of
from router.http.server.exchange import Exchange
from router.http.server.large_bodies import MAX_NAMES, MAX_VALUES, beside_texts, refuse_many_values
from tests.support.fleets import request
from tests.support.http_surface import Surface, surface

CHAT = "/v1/chat/completions"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a,:"\\é\n😀'), max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.sampled_from('a,:"\\'), max_size=4), inner),
    max_leaves=30,
)


def separators(value: Any) -> tuple[int, int]:
    """Commas and colons JSON needs for ``value``."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    below = [separators(one) for one in inner]
    commas = max(0, len(inner) - 1) + sum(one for one, _ in below)
    return commas, (len(inner) if isinstance(value, dict) else 0) + sum(one for _, one in below)


@given(value=JSON, ascii_only=st.booleans(), piece=st.integers(1, 20))
def test_only_what_separates_values_and_names_is_counted(value: Any, ascii_only: bool, piece: int) -> None:
    """Wherever the pieces end, in the middle of a text or of an escape."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_bodies, "_PIECE_BYTES", piece)
        assert beside_texts(body) == separators(value)


def test_so_many_values_and_no_more() -> None:
    """A prompt of token ids at the bound passes; commas in a text are no values."""
    refuse_many_values(b'{"prompt":[' + b",".join([b"1"] * MAX_VALUES) + b"]}")
    refuse_many_values(b'{"prompt":"' + b"1," * (2 * MAX_VALUES) + b'"}')
    with pytest.raises(InvalidRequest, match=f"more than {MAX_VALUES} values"):
        refuse_many_values(b'{"prompt":[' + b",".join([b"1"] * (MAX_VALUES + 1)) + b"]}")


def test_so_many_names_and_no_more() -> None:
    """Of all objects together; what stands in a text is no name."""

    def body(count: int) -> bytes:
        return json.dumps({"metadata": {str(number): "" for number in range(count - 1)}}).encode()

    refuse_many_values(body(MAX_NAMES))
    refuse_many_values(json.dumps({"prompt": body(2 * MAX_NAMES).decode()}).encode())
    with pytest.raises(InvalidRequest, match=f"more than {MAX_NAMES} names"):
        refuse_many_values(body(MAX_NAMES + 1))


@pytest.mark.parametrize("count", [MAX_VALUES - 1, MAX_VALUES + 2])
async def test_a_prompt_of_token_ids_is_served_up_to_the_bound(count: int) -> None:
    """Through the whole HTTP edge."""
    on = surface()
    body = b'{"model":"m","prompt":[' + b",".join([b"7"] * count) + b"]}"
    async with on.client() as client:
        reply = await client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    if count < MAX_VALUES:
        assert reply.status_code == 200, reply.text[:300]
    else:
        assert reply.status_code == 400
        assert f"{MAX_VALUES} values" in reply.json()["error"]["message"]


@given(
    parts=st.lists(st.sampled_from([rb"\\", rb"\"", rb"\u0041", rb"\ud83d\ude00", b"a", b"aaaaaaaaaaa"]), max_size=30),
    lone=st.sampled_from([b"", rb"\ud800", rb"\udc00", rb"\ud800\u0041"]),
    rest=st.lists(st.sampled_from([rb"\\", rb"\ud83d\ude00", b"b"]), max_size=10),
    piece=st.integers(1, 16),
)
def test_half_a_pair_is_found_wherever_the_pieces_end(
    parts: list[bytes], lone: bytes, rest: list[bytes], piece: int
) -> None:
    """And only half a pair: not an escaped backslash before a u."""
    body = b"".join(parts) + lone + b"".join(rest)
    whole = next((found[1] for found in decoding._SURROGATES.finditer(body) if found[1]), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_PIECE_BYTES", piece)
        assert decoding._half_pair(body) == whole


@given(limit=st.integers(1, 10_000), sizes=st.lists(st.integers(0, 3000), max_size=20))
def test_bodies_together_stay_within_the_budget(limit: int, sizes: list[int]) -> None:
    """What fits is taken, what does not is refused and takes nothing; at the end all is back."""
    budget = BodyBudget(limit)
    held: list[int] = []
    with pytest.MonkeyPatch.context():
        shares = [budget.open() for _ in sizes]
        for share, size in zip(shares, sizes, strict=True):
            if sum(held) + size <= limit:
                share.take(size)
                held.append(size)
            else:
                with pytest.raises(BodiesFull, match=str(limit)):
                    share.take(size)
            assert budget.held == sum(held)
        for share in shares:
            with share:
                pass
    assert budget.held == 0


@given(text=st.text(max_size=300))
def test_a_prompt_is_charged_what_it_takes(text: str) -> None:
    """A single rare letter makes every letter of a text as large as itself."""
    assert weight_of(request(messages=(ChatMessage(role="user", content=text),))) >= len(text)
    assert weight_of(request(messages=(ChatMessage(role="user", content="a" * 1000 + "😀"),))) > 4000
    assert weight_of(request(prompt=tuple(range(100)))) >= 4000


async def test_where_the_budget_is_used_up_others_hear_503_and_are_served_afterwards() -> None:
    """The first request still waits for its answer: its prompt counts until then."""
    on = surface(config=HttpConfig(bodies_limit_bytes=3000))
    on.pipeline.accept.clear()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 1800}]}).encode()
    headers = {"content-type": "application/json"}
    async with on.client() as client:
        first = asyncio.create_task(client.post(CHAT, content=body, headers=headers))
        await on.pipeline.started.wait()
        second = await client.post(CHAT, content=body, headers=headers)
        assert second.status_code == 503
        assert second.json()["error"]["code"] == "bodies_full"
        assert second.headers["retry-after"] == "1"
        on.pipeline.accept.set()
        assert (await first).status_code == 200
        assert (await client.post(CHAT, content=body, headers=headers)).status_code == 200


async def _asked(on: Surface, pieces: list[bytes], *, more: bool, then: Callable[[], Awaitable[None]]) -> list[Any]:
    """A chat in these pieces; ``then`` is awaited each time more is wanted when all have come."""
    left, sent = list(pieces), []

    async def receive() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": more or bool(left)}
        await then()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    await on.app({"type": "http", "method": "POST", "path": CHAT, "headers": headers}, receive, send)
    return sent


async def test_a_body_that_is_refused_is_let_go_before_its_client_hears_of_it() -> None:
    """What was kept of 200 refused bodies until their rest had been read away took 250 MB."""
    on = surface(config=HttpConfig(bodies_limit_bytes=4_000_000))
    held: list[int] = []

    async def read_away() -> None:
        held.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        sent = await _asked(on, [bytes(1_000_000)] * 5, more=True, then=read_away)
    finally:
        tracemalloc.stop()
    assert sent[0]["status"] == 503
    assert held, "the rest was read"
    assert held[0] - before < 2_000_000, "no more than the one piece that the test itself holds"


@pytest.mark.parametrize("holders", [1, 3, 8])
async def test_bodies_that_stop_before_their_end_give_way_to_small_ones(holders: int) -> None:
    """Else few senders that hold the whole budget keep everybody out until their deadlines."""
    limit = 800_000
    on = surface(config=HttpConfig(bodies_limit_bytes=limit))
    stopped, all_stopped = 0, asyncio.Event()

    async def stop() -> None:
        nonlocal stopped
        stopped += 1
        if stopped == holders:
            all_stopped.set()
        await asyncio.Event().wait()

    each = [bytes(limit // holders)]
    tasks = [asyncio.create_task(_asked(on, each, more=True, then=stop)) for _ in range(holders)]
    await all_stopped.wait()
    async with on.client() as client:
        reply = await client.post(CHAT, json={"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        assert reply.status_code == 200, reply.text
    first = await tasks[0]
    assert first[0]["status"] == 503
    assert b"bodies_full" in first[1]["body"]
    assert not any(task.done() for task in tasks[1:]), "as few as are needed"
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)


@settings(max_examples=20, deadline=None)
@given(pieces=st.integers(0, 6), total=st.integers(1, 6))
async def test_a_body_that_was_not_read_to_its_end_closes_its_connection(pieces: int, total: int) -> None:
    """Else its rest would trickle in for as long as its sender likes."""
    sent: list[dict[str, Any]] = []
    left = [{"type": "http.request", "body": b"x", "more_body": number < total - 1} for number in range(pieces)][:total]

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"method": "POST", "path": "/nowhere", "headers": [(b"content-length", b"%d" % total)]}
    await Exchange(scope, receive, send, stall_s=1.0).respond(404, b"{}")
    assert ((b"connection", b"close") in sent[0]["headers"]) == (pieces < total)


async def test_a_body_too_large_to_be_read_away_is_not_waited_for() -> None:
    """Eight gigabytes that come a byte a second: answered at once, and the connection is over."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing of it is read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"method": "POST", "path": "/nowhere", "headers": [(b"content-length", b"8000000000")]}
    await Exchange(scope, receive, send, stall_s=1.0).respond(404, b"{}")
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize(
    ("each", "every_s", "served"), [(1, 1.0, False), (500, 1.0, False), (4000, 1.0, True), (100, 0.01, True)]
)
async def test_a_body_that_trickles_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, each: int, every_s: float, served: bool
) -> None:
    """Below a kilobyte a second, after a slow start: not until its deadline, however long that is."""
    now = 0.0
    total = 20_000

    async def receive() -> dict[str, Any]:
        nonlocal now, sent
        now += every_s
        sent += each
        return {"type": "http.request", "body": b"x" * each, "more_body": sent < total}

    sent = 0
    loop = asyncio.get_running_loop()
    scope = {"method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    exchange = Exchange(scope, receive, receive, stall_s=1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(loop, "time", lambda: now)
    if served:
        assert len(await exchange.body(10**6, 10**6)) == total
        return
    with pytest.raises(BodyTooSlow, match="bytes a second"):
        await exchange.body(10**6, 10**6)
    assert now < 15.0
