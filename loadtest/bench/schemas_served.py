"""Whether answers fit their schemas, as clients get them: over HTTP, streamed and not, from each engine.

A router and one worker a time, as processes. Every schema is asked for twice at temperature 1 with one seed, and an
answer that ended by itself must validate; one that a bound on its tokens ended is no answer.
"""

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import jsonschema

from router.cli.support.processes import Child, stop_all

VLLM_PYTHON = Path(".venv-vllm/bin/python")
AWQ = Path("build/models/smollm2-135m-awq")
AT_ONCE = 8
ANSWER_TOKENS = 200
READY_WITHIN_S = 300.0
ANSWERS_WITHIN_S = 300.0


def engines() -> list[str]:
    """Those that can be run here."""
    return ["llama.cpp", *(["vllm"] if VLLM_PYTHON.exists() and AWQ.exists() else [])]


def measure(engine: str, schemas: Sequence[Any], gguf: Path) -> dict[str, Any]:
    """Of ``engine``: schemas, answers that ended, those that validate, and how many say the same streamed and not."""
    with tempfile.TemporaryDirectory() as folder, _pool(engine, Path(folder), gguf) as url:
        answers = asyncio.run(_ask_all(url, schemas))
    found: dict[str, Any] = {"schemas": len(schemas)}
    for way, told in (("streamed", 0), ("whole", 1)):
        ended = [(one[told][0], schema) for one, schema in zip(answers, schemas, strict=True) if one[told][1] == "stop"]
        misfits = [(text, schema) for text, schema in ended if not fits(text, schema)]
        for text, schema in misfits:
            print(f"{engine}, {way}: {text[:100]!r} does not fit {json.dumps(schema)[:200]}")
        found[way] = {"ended": len(ended), "valid": len(ended) - len(misfits)}
    found["alike"] = sum(streamed == whole for streamed, whole in answers)
    return found


def share(figures: Sequence[dict[str, Any]]) -> float:
    """Valid of those that ended, over all engines and both ways."""
    ways = [one[way] for one in figures for way in ("streamed", "whole")]
    return float(sum(one["valid"] for one in ways) / max(1, sum(one["ended"] for one in ways)))


def fits(text: str, schema: Any) -> bool:
    """Whether an answer is JSON and validates."""
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


Answer = tuple[str, str]
"""Its text and its finish reason."""


async def _ask_all(url: str, schemas: Sequence[Any]) -> list[tuple[Answer, Answer]]:
    turns = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWERS_WITHIN_S) as client:

        async def ask(number: int, schema: Any) -> tuple[Answer, Answer]:
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": f"Answer number {number} as JSON."}],
                "temperature": 1.0,
                "seed": number,
                "max_tokens": ANSWER_TOKENS,
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
            }
            async with turns:
                return await _streamed(client, body), await _whole(client, body)

        return await asyncio.gather(*(ask(number, schema) for number, schema in enumerate(schemas)))


async def _whole(client: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
    reply = await client.post("/v1/chat/completions", json=body)
    reply.raise_for_status()
    choice = reply.json()["choices"][0]
    return choice["message"]["content"] or "", choice["finish_reason"]


async def _streamed(client: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
    text, reason = "", ""
    async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
    return text, reason


@contextlib.contextmanager
def _pool(engine: str, folder: Path, gguf: Path) -> Iterator[str]:
    port, grpc_port = _free_port(), _free_port()
    url = f"http://127.0.0.1:{port}"
    python, model = (sys.executable, gguf) if engine == "llama.cpp" else (str(VLLM_PYTHON), AWQ)
    router = [
        sys.executable, "-m", "router.cli.main", "serve", "--without-ray", "--port", str(port),
        "--grpc-port", str(grpc_port), "--state-dir", str(folder / "router"),
    ]  # fmt: skip
    worker = [
        python, "-m", "workers.cli.worker", "--router", f"127.0.0.1:{grpc_port}", "--node", "one", "--engine", engine,
        "--model", f"m={model}", "--slots", str(AT_ONCE), "--context", "1024", "--no-benchmark",
        "--state-dir", str(folder / "worker"),
    ]  # fmt: skip
    children = [Child("router", router, log=folder / "router.log")]
    try:
        _until(url, children, wanted=0)
        children.append(Child("worker", worker, log=folder / "worker.log"))
        _until(url, children, wanted=1)
        yield url
    finally:
        stop_all(children, 30.0)


def _until(url: str, children: list[Child], wanted: int) -> None:
    """So many workers are ready."""
    give_up = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up:
        if dead := [one for one in children if not one.alive]:
            raise RuntimeError(f"{dead[0].name} ended:\n{dead[0].tail()}")
        with contextlib.suppress(httpx.HTTPError):
            workers = httpx.get(f"{url}/admin/fleet", timeout=5).json()["workers"]
            if sum(one["state"] == "ready" for one in workers) >= wanted:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{children[-1].name} is not ready within {READY_WITHIN_S:.0f} s:\n{children[-1].tail()}")


def _free_port() -> int:

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
