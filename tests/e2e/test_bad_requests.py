"""Bad input through the whole pool: OpenAI's error shape, never a 5xx, nothing left in an engine."""

import json
from typing import Any

import httpx
import pytest

from tests.support.pool import MODEL, Pool

pytestmark = pytest.mark.model

GOOD: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def body(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


CASES: dict[str, tuple[bytes, int, str | None]] = {
    "malformed JSON": (b'{"model": ', 400, None),
    "no object": (b"[1, 2]", 400, None),
    "empty": (b"", 400, None),
    "invalid UTF-8": (b'{"model": "\xff\xfe"}', 400, None),
    "wrong type": (body(max_tokens="many"), 400, "max_tokens"),
    "wrong type of messages": (body(messages="hi"), 400, "messages"),
    "no messages": (body(messages=[]), 400, "messages"),
    "negative": (body(max_tokens=-1), 400, "max_tokens"),
    "absurd": (body(max_tokens=10**30), 400, "max_tokens"),
    "too hot": (body(temperature=1e9), 400, "temperature"),
    "less than no share": (body(top_p=-0.1), 400, "top_p"),
    "very many answers": (body(n=100_000), 400, "n"),
    "no answer": (body(n=0), 400, "n"),
    "bias beyond bounds": (body(logit_bias={"1": 500}), 400, "logit_bias"),
    "bias of no token": (body(logit_bias={"river": 5}), 400, "logit_bias"),
    "unknown model": (body(model="gpt-17"), 404, "model"),
    "unknown role": (body(messages=[{"role": "wizard", "content": "x"}]), 400, None),
    "deep": (b"[" * 100_000, 400, None),
    "huge": (b'{"model": "' + b"x" * (9 * 2**20) + b'"}', 413, None),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_request_is_the_clients_error(pool: Pool, name: str) -> None:
    """Status, shape and the parameter's name; the pool goes on."""
    content, status, parameter = CASES[name]
    async with httpx.AsyncClient(timeout=60, headers={"content-type": "application/json"}) as client:
        reply = await client.post(f"{pool.url}/v1/chat/completions", content=content)
        assert reply.status_code == status, reply.text
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        if parameter is not None:
            assert error["param"] is not None
            assert error["param"].startswith(parameter)
    assert pool.busy() == 0


async def test_an_unknown_field_is_ignored_and_named(pool: Pool) -> None:
    """Clients send what other servers know; whoever mistyped a name is told in a header."""
    async with httpx.AsyncClient(timeout=60, headers={"content-type": "application/json"}) as client:
        reply = await client.post(f"{pool.url}/v1/chat/completions", content=body(temprature=1))
    assert reply.status_code == 200
    assert reply.headers["x-allsorts-ignored"] == "temprature"


async def test_after_all_that_the_pool_answers(pool: Pool) -> None:
    """Nothing leaked, nobody fell over."""
    async with httpx.AsyncClient(timeout=60) as client:
        reply = await client.post(f"{pool.url}/v1/chat/completions", json=GOOD)
        assert reply.status_code == 200
        assert (await client.get(f"{pool.url}/healthz")).status_code == 200
        assert (await client.get(f"{pool.url}/readyz")).status_code == 200
        assert b"allsorts_requests" in (await client.get(f"{pool.url}/metrics")).content
    assert {worker["state"] for worker in pool.workers()} == {"ready"}
