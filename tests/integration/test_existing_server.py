"""A worker on a server that already runs, llama.cpp's own: what happens when clients leave, and when it dies."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.test_error_paths import shown, stream, text_of
from tests.support.one_pool import OnePool, one_pool
from tests.support.pool import free_port
from tests.support.third_party_server import server_process
from tests.support.until import until

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
SOON_S = 15.0


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnePool]:
    """One router for all tests of this file."""
    with one_pool(tmp_path_factory.mktemp("existing-server")) as one:
        yield one


def busy_slots(url: str) -> int:
    """By the server's own count."""
    slots = httpx.get(url.removesuffix("/v1") + "/slots", timeout=60).json()
    return sum(bool(one["is_processing"]) for one in slots)


def ready(pool: OnePool, node: str, model: str = MODEL) -> bool:
    return bool(pool.models(node).get(model, {}).get("state") == "ready")


def test_a_client_that_leaves_ends_the_work_in_the_server(pool: OnePool, model_files: dict[str, Path]) -> None:
    """Through router, session and worker: the server's own slot is free long before the answer would have ended."""
    with (
        server_process(model_files["q8_0"], context_tokens=8192, slots=1) as (_, url),
        pool.working("box", "--engine", "openai", "--base-url", url),
    ):
        pool.until(lambda: ready(pool, "box"))
        events = stream(pool, MODEL, 8000)
        for _ in range(5):
            next(events)
        assert busy_slots(url) == 1
        events.close()  # type: ignore[attr-defined]
        until(lambda: busy_slots(url) == 0, "the server's slot is free", within_s=SOON_S)
        pool.until(lambda: pool.worker("box")["running"] == 0)
        assert pool.chat(MODEL).status_code == 200


def test_another_router_of_ours_can_be_put_into_the_pool(
    pool: OnePool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It lists its models as NAME and NAME@QUANTIZATION: both are asked for here as they are there."""
    with (
        one_pool(tmp_path_factory.mktemp("other-router")) as other,
        other.working("far", "--engine", "simulated", "--model", "sim=rtx-4090"),
    ):
        other.until(lambda: ready(other, "far", "sim"))
        quantization = other.models("far")["sim"]["quantization"]
        with pool.working("near", "--engine", "openai", "--base-url", f"{other.url}/v1"):
            pool.until(lambda: {("sim", quantization)} <= joined(pool, "near"))
            for name in ("sim", f"sim@{quantization}"):
                reply = pool.chat(name)
                assert reply.status_code == 200, reply.text
            assert reply.headers["x-allsorts-quantization"] == quantization


def joined(pool: OnePool, node: str) -> set[tuple[str, str]]:
    """Models that are ready there, with their quantizations."""
    models = pool.worker(node).get("models", ())
    return {(one["model"], one["quantization"]) for one in models if one["state"] == "ready"}


def test_a_server_that_dies_is_said_at_once_and_used_again_when_it_is_back(
    pool: OnePool, model_files: dict[str, Path]
) -> None:
    """The stream ends with the reason, so does the next request, nobody waits for ever; the worker stays throughout."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        server, url = stack.enter_context(server_process(model_files["q8_0"], port=port))
        process = stack.enter_context(pool.working("host", "--engine", "openai", "--base-url", url))
        pool.until(lambda: ready(pool, "host"))
        events = []
        for event in stream(pool, MODEL, 600):
            events.append(event)
            if len(events) == 8:
                server.send_signal(signal.SIGKILL)
        assert text_of(events[:-1])
        assert "error" in events[-1]
        assert f"the server at {url}/ " in str(events[-1]["error"])
        reply = pool.chat(MODEL)
        assert reply.status_code in (502, 503)
        assert f"the server at {url}/ does not answer" in reply.json()["error"]["message"]
        pool.until(lambda: f"the server at {url}/ does not answer" in shown(pool))
        with server_process(model_files["q8_0"], port=port):
            until(lambda: pool.chat(MODEL).status_code == 200, "an answer from the server that is back", within_s=60)
        assert process.poll() is None
