"""``allsorts worker`` as a process, against a real session listener and a real third-party server."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.fleet_servicer import Fleet, serving
from tests.support.third_party_server import running as third_party_server


@contextlib.asynccontextmanager
async def worker(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in a process of its own, which is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workers.cli.worker",
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run_to_end(*arguments: str) -> tuple[int, str]:
    async with worker(*arguments) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--router", "nowhere", "--model", "x.gguf"], "write HOST:PORT"),
        (["--engine", "steam", "--model", "x.gguf"], "there is no engine 'steam'"),
        (["--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"], "no server answers at http://127.0.0.1:9/v1"),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (["--model", "x.gguf", "--label", "oops"], "write KEY=VALUE"),
        (["--router", "192.0.2.1:8100", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"], "no server"),
    ],
)
async def test_what_is_wrong_is_one_line_and_status_one(arguments: list[str], line: str, tmp_path: Path) -> None:
    """No traceback: what, where, what to do."""
    code, err = await run_to_end(*arguments, "--state-dir", str(tmp_path))
    assert code == 1
    assert "Traceback" not in err
    said = [one for one in err.splitlines() if one.startswith("allsorts worker: ")]
    assert len(said) == 1
    assert line in said[0]


@pytest.mark.model
async def test_a_server_that_runs_joins_answers_and_leaves(model_files: dict[str, Path], tmp_path: Path) -> None:
    """Discovery, enrolment, quick benchmark, an answer, SIGTERM with a goodbye; the identity is kept for next time."""
    with third_party_server(model_files["q8_0"]) as url:
        async with serving(Fleet()) as fleet:
            arguments = ("--router", fleet.address, "--engine", "openai", "--base-url", url, "--node", "box")
            arguments += ("--quick-benchmark", "--state-dir", str(tmp_path), "--label", "site=lab")
            async with worker(*arguments) as process:
                session = await fleet.session()
                ready = await session.until(
                    lambda one: [p.model for p in one.of("model_progress") if p.model.state == pb.MODEL_STATE_READY],
                    timeout_s=90,
                )
                model = ready[0]
                assert (model.format, model.context_tokens, model.slots) == ("remote", 1024, 4)
                assert model.quantization
                assert model.speed.measured
                assert model.speed.base_s + model.speed.per_sequence_s > 0
                assert dict(session.hello.profile.labels) == {"site": "lab"}
                chat = pb.Chat(messages=[pb.ChatMessage(role="user", content="What is the capital of France?")])
                sampling = pb.Sampling(max_tokens=24)
                session.send(
                    generate=pb.Generate(
                        request_id="r", model=model.model, quantization=model.quantization, chat=chat, sampling=sampling
                    )
                )
                await session.until(lambda one: one.finish("r"), timeout_s=60)
                assert "Paris" in session.text("r")
                process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 60) == 0
                assert session.of("leaving")[-1].kind == pb.LEAVING_KIND_BYE
            async with worker(*arguments, "--no-benchmark"):
                again = await fleet.session(2)
                assert again.hello.worker_id == session.hello.worker_id
                assert len(fleet.enrolled) == 1
