"""One router over four kinds of workers: llama.cpp, vLLM with AWQ weights, a server that already runs, a simulated one.

Each is started by its own command in a process of its own, as on four machines.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from router.cli.support.processes import Child, stop_all
from tests.conftest import REPOSITORY
from tests.support.pool import free_port
from tests.support.third_party_server import running as third_party_server
from tests.support.until import until

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

READY_WITHIN_S = 300.0
MODEL = "smollm2-135m"
VLLM_PYTHON = REPOSITORY / ".venv-vllm" / "bin" / "python"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ENGINES = {"q8_0": "llama.cpp", "awq": "vllm", "q4_k_m": "openai", "gptq": "simulated"}

H100 = """
machine = "h100-sxm"
[model]
shape = "llama-3.3-70b"
quantization = "gptq"
slots = 4
"""
"""With a model so large, and so few slots, that it is about as fast as the small model is here: all get work."""


class MixedPool:
    """Where the router listens."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def workers(self) -> dict[str, dict[str, Any]]:
        """By engine."""
        workers = httpx.get(f"{self.url}/admin/fleet", timeout=60).json()["workers"]
        return {worker["engine"]: worker for worker in workers}

    def ready(self) -> set[str]:
        try:
            return {engine for engine, worker in self.workers().items() if worker["state"] == "ready"}
        except httpx.HTTPError:
            return set()


@pytest.fixture(scope="module")
def pool(
    model_files: dict[str, Path], awq_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MixedPool]:
    """Everything up and measured."""
    here = tmp_path_factory.mktemp("mixed")
    port, grpc_port = free_port(), free_port()
    allsorts = [sys.executable, "-m", "router.cli.main"]
    profile = here / "h100.toml"
    profile.write_text(H100)

    def worker(name: str, *arguments: str, python: list[str] = allsorts) -> Child:
        command = [*python, *([] if python is not allsorts else ["worker"]), "--router", f"127.0.0.1:{grpc_port}",
                   "--node", name, "--state-dir", str(here / name), "--quick-benchmark", *arguments]  # fmt: skip
        return Child(name, command, log=here / f"{name}.log", environment={"OMP_NUM_THREADS": "1"})

    size = ["--slots", "4", "--context", "1024"]
    children = [
        Child(
            "router",
            [*allsorts, "serve", "--without-ray", "--port", str(port), "--grpc-port", str(grpc_port),
             "--state-dir", str(here / "router")],
            log=here / "router.log",
        )
    ]  # fmt: skip
    with third_party_server(model_files["q4_k_m"]) as upstream:
        try:
            children += [
                worker("mac", "--engine", "llama.cpp", "--model", f"{MODEL}={model_files['q8_0']}", *size),
                worker(
                    "gpu-node", "--engine", "vllm", "--model", f"{MODEL}={awq_folder}", *size,
                    python=[str(VLLM_PYTHON), "-m", "workers.cli.worker"],
                ),
                worker("somebodys-server", "--engine", "openai", "--base-url", upstream),
                worker("simulated", "--engine", "simulated", "--model", f"{MODEL}={profile}"),
            ]  # fmt: skip
            mixed = MixedPool(port)
            until(
                lambda: _all_ready(mixed, children),
                lambda: f"ready: {mixed.ready()}\n{children[2].tail(40)}",
                within_s=READY_WITHIN_S,
            )
            yield mixed
        finally:
            stop_all(children, deadline_s=30)


def _all_ready(pool: MixedPool, children: list[Child]) -> bool:
    for child in children:
        assert child.alive, f"{child.name} ended:\n{child.tail(40)}"
    return pool.ready() == set(ENGINES.values())


@pytest.fixture
async def client(pool: MixedPool) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client."""
    async with openai.AsyncOpenAI(base_url=f"{pool.url}/v1", api_key="none", max_retries=0, timeout=120) as one:
        yield one


def test_the_fleet_shows_each_with_what_it_is(pool: MixedPool) -> None:
    """Hardware, engine, quantization and measured speed, all by the workers' own word."""
    workers = pool.workers()
    for quantization, engine in ENGINES.items():
        (model,) = workers[engine]["models"]
        assert model["quantization"] == quantization
        assert workers[engine]["hardware"]["name"]
        assert model["speed"]["measured"], engine
    shown = subprocess.run(
        [sys.executable, "-m", "router.cli.main", "fleet", "--url", pool.url],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "250"},
    ).stdout  # fmt: skip
    for quantization, engine in ENGINES.items():
        row = next(line for line in shown.splitlines() if f" {engine} " in line)
        assert f" {quantization} " in row
        assert workers[engine]["hardware"]["name"][:12] in row
        assert " ready " in row
        assert float(row.split()[-1]) > 0, "tokens a second"
    assert "H100 SXM" in next(line for line in shown.splitlines() if " simulated " in line)


@pytest.mark.parametrize("quantization", ENGINES)
async def test_each_answers_when_it_is_asked_for(client: openai.AsyncOpenAI, quantization: str) -> None:
    """Pinned by its quantization; the answer says who gave it."""
    raw = await client.chat.completions.with_raw_response.create(
        model=f"{MODEL}@{quantization}", messages=QUESTION, temperature=0, max_tokens=24
    )
    answer = raw.parse()
    assert raw.headers["x-allsorts-quantization"] == quantization
    assert answer.choices[0].message.content
    if quantization in ("q8_0", "awq"):
        assert "Paris" in answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 24


async def test_without_asking_for_one_all_take_their_share(client: openai.AsyncOpenAI, pool: MixedPool) -> None:
    """Streams by the dozen at once: every one is answered whole, and no engine stands idle."""

    async def ask(number: int) -> str:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Tell me story number {number}."}],
            temperature=0,
            max_tokens=48,
            stream=True,
            stream_options={"include_usage": True},
        )
        ended, usage = "", None
        async for chunk in raw.parse():
            usage = chunk.usage or usage
            for choice in chunk.choices:
                ended = choice.finish_reason or ended
        assert ended in ("stop", "length")
        assert usage is not None
        assert usage.completion_tokens > 0
        return raw.headers["x-allsorts-quantization"]

    used = await asyncio.gather(*(ask(number) for number in range(48)))
    assert set(used) == set(ENGINES), used
    until(lambda: not any(worker["running"] or worker["waiting"] for worker in pool.workers().values()), pool.workers)
