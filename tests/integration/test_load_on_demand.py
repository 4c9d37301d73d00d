"""Models that nobody has loaded, asked for: they come up, take turns on one machine, and every request is answered."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.http.dialects.openai.sse import SIGN_OF_LIFE
from tests.support.one_pool import OnePool, one_pool

pytestmark = pytest.mark.model

RESIDENCE_S, TURN_S = 0.3, 1.0
RULES = {"residence_s": RESIDENCE_S, "turn_s": TURN_S, "drain_s": 10.0}


def model(name: str, **more: Any) -> dict[str, Any]:
    """Wanted when somebody asks for it."""
    return {"name": name, "copies": {"min": 0, "max": 1}, "context": 1024, "slots": 4, **more}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Iterator[OnePool]:
    """A machine that has room for one of the models whose files it has."""
    folder = tmp_path_factory.mktemp("on-demand")
    models = folder / "models"
    models.mkdir()
    for name in ("ada", "bea"):
        (models / f"{name}-q8_0.gguf").symlink_to(model_files["q8_0"])
    waits = ("--wait-for-models", "--models", str(models), "--threads", "1", "--max-memory", "420MiB")
    with one_pool(folder, patience_s=2.0) as one, one.working("box", *waits):
        one.until(lambda: one.worker("box"))
        yield one


def want(pool: OnePool, *models: dict[str, Any], **rules: float) -> None:
    version = httpx.get(f"{pool.url}/admin/desired").json()["version"]
    body = {"state": {"models": list(models), "rules": {**RULES, **rules}}, "version": version}
    reply = httpx.post(f"{pool.url}/admin/desired", json=body)
    assert reply.status_code == 200, reply.text


def loads(pool: OnePool) -> int:
    """Ordered so far, by the router's log."""
    return (pool.folder / "router.log").read_text().count("model.load_ordered")


def test_ten_alternating_requests_for_two_models_that_fit_one_at_a_time(pool: OnePool) -> None:
    """Each is answered; a swap for each change of the model and no more, and none within a copy's residence."""
    want(pool, model("ada"), model("bea"))
    before, began = loads(pool), time.monotonic()
    for number in range(10):
        reply = pool.chat(("ada", "bea")[number % 2], max_tokens=3)
        assert reply.status_code == 200, reply.text
    swaps = loads(pool) - before
    assert swaps <= 10
    assert swaps <= 1 + (time.monotonic() - began) / RESIDENCE_S


async def test_ten_alternating_requests_at_once_are_answered_in_turns(pool: OnePool) -> None:
    """Those for the model that is loaded are answered before it goes: two swaps, not nine. However slow the machine is:
    five answers are within one turn.
    """
    want(pool, model("ada"), model("bea"), turn_s=60.0)
    before = loads(pool)
    async with httpx.AsyncClient(timeout=60) as client:

        async def ask(name: str) -> int:
            body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
            return (await client.post(f"{pool.url}/v1/chat/completions", json=body)).status_code

        assert await asyncio.gather(*(ask(("ada", "bea")[number % 2]) for number in range(10))) == [200] * 10
    assert loads(pool) - before <= 2


def test_what_cannot_come_up_is_refused_with_the_reason(pool: OnePool) -> None:
    """At once, though its machine is there; models that nobody wants are unknown."""
    want(pool, model("ada"), model("huge", sources=[{"pool": "ada-q8_0.gguf"}], slots=4096))
    assert pool.chat("nobody").status_code == 404
    names = [one["id"] for one in httpx.get(f"{pool.url}/v1/models").json()["data"]]
    assert {"ada", "huge"} <= set(names)
    reply = pool.chat("huge")
    assert reply.status_code == 503
    assert "huge cannot be brought up: box: q8_0 needs" in reply.json()["error"]["message"]
    body = {"model": "huge", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    assert httpx.post(f"{pool.url}/v1/chat/completions", json=body, timeout=60).status_code == 503


def lines_of(pool: OnePool, name: str, **more: Any) -> list[str]:
    """Of a stream, as it came."""
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True, **more}
    with httpx.stream("POST", f"{pool.url}/v1/chat/completions", json=body, timeout=60) as reply:
        assert reply.status_code == 200
        return [line for line in reply.iter_lines() if line]


def test_a_stream_says_how_far_its_model_is(pool: OnePool) -> None:
    """In comments, beside those of a long prompt; the answer follows on the same stream. What is loaded says none."""
    want(pool)
    pool.until(lambda: not pool.models("box"))
    want(pool, model("ada"))
    lines = lines_of(pool, "ada")
    signs = [line for line in lines if line.startswith(":") and line.encode() not in SIGN_OF_LIFE]
    assert all(line.startswith(": ada is ") for line in signs), signs
    assert lines[-1] == "data: [DONE]"
    assert "allsorts" in lines[-2]
    assert not [line for line in lines_of(pool, "ada") if line.startswith(": ada")]


def test_ollamas_keep_alive_lets_a_model_go_and_the_operator_bounds_it(pool: OnePool) -> None:
    """0: as soon as it is not used. Less than the operator's least is that."""
    want(pool, model("ada"))
    body = {"model": "ada", "prompt": "Hi", "stream": False, "options": {"num_predict": 2}}
    assert httpx.post(f"{pool.url}/api/generate", json={**body, "keep_alive": "1h"}, timeout=60).status_code == 200
    assert pool.models("box")["ada"]["state"] == "ready"
    shown = {one["name"]: one["expires_at"] for one in httpx.get(f"{pool.url}/api/ps").json()["models"]}
    assert {"ada", "ada@q8_0"} <= set(shown)
    for at in shown.values():
        assert timedelta(minutes=30) < datetime.fromisoformat(at) - datetime.now(UTC) < timedelta(hours=1, minutes=30)
    assert httpx.post(f"{pool.url}/api/generate", json={**body, "keep_alive": 0}, timeout=60).status_code == 200
    pool.until(lambda: not pool.models("box"))
    assert httpx.post(f"{pool.url}/api/generate", json={**body, "keep_alive": "soon"}).status_code == 400
