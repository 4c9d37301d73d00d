"""Under Ray one actor leads the fleet: it may be killed, and nobody notices."""

import asyncio

import httpx
import openai
import psutil
import pytest

from tests.support.pool import MODEL, Pool
from tests.support.processes import command_line, family_of
from tests.support.until import until

pytestmark = pytest.mark.model


def controllers(pool: Pool) -> list[psutil.Process]:
    return [one for one in family_of(pool.process_id) if command_line(one).startswith("ray::Controller")]


async def test_the_controller_may_be_killed(pool: Pool, client: openai.AsyncOpenAI) -> None:
    """It comes with the first thing that is wanted, and comes back; the workers stay, and their streams go on."""
    if pool.kind != "ray":
        pytest.skip("without Ray the router leads by itself")
    assert not controllers(pool), "nothing is wanted: nothing leads"
    version = httpx.get(f"{pool.url}/admin/desired").json()["version"]
    body = {"state": {"models": [{"name": MODEL}]}, "version": version}
    assert httpx.post(f"{pool.url}/admin/desired", json=body).status_code == 200
    await asyncio.to_thread(until, lambda: controllers(pool), "the controller starts", within_s=60)
    workers = [worker["worker_id"] for worker in pool.workers()]
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Count."}], max_tokens=200, temperature=0, stream=True
    )
    (first,) = controllers(pool)
    first.kill()
    pieces = [chunk async for chunk in stream]
    assert pieces[-1].choices[0].finish_reason in ("length", "stop")
    await asyncio.to_thread(until, lambda: controllers(pool), "the controller is back", within_s=60)
    assert controllers(pool)[0].pid != first.pid
    assert [(worker["worker_id"], worker["state"]) for worker in pool.workers()] == [(one, "ready") for one in workers]
    told = httpx.get(f"{pool.url}/admin/status").json()
    assert told["settled"]
    nothing = {"state": {"models": []}, "version": told["version"]}
    assert httpx.post(f"{pool.url}/admin/desired", json=nothing).status_code == 200
