"""What can go wrong with a model or its engine, on the real llama.cpp engine, worker process and router.

Each cause is one clear line to the client and in the fleet's table; the worker recovers or leaves; nothing hangs.
"""

import json
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from protos.contract.models.gguf.header import read_header
from router.cli.fleet import fleet_table
from tests.support.one_pool import PATIENT_S, OnePool, end, one_pool

pytestmark = pytest.mark.model


def bad_files(folder: Path, good: Path) -> dict[str, str]:
    """Each kind of broken model by name, with its path."""
    source = good.read_bytes()
    header = read_header(good)
    noise = random.Random(1)
    first_type = source.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    unknown = source[:first_type] + (99).to_bytes(4, "little") + source[first_type + 4 :]
    contents = {
        "flipped": source[:8] + b"\xff" * 8 + source[16:],
        "garbage": b"GGUF" + noise.randbytes(100_000),
        "noise": noise.randbytes(100_000),
        "empty": b"",
        "header-cut": source[: header.data_offset // 2],
        "data-cut": source[: header.data_offset + header.weights_bytes // 2],
        "newer": unknown,
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = str(folder / f"{name}.gguf")
        Path(paths[name]).write_bytes(content)
    awq = folder / "some-model-awq"
    awq.mkdir()
    (awq / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq", "bits": 4}}))
    (awq / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    return {
        **paths,
        "missing": str(folder / "missing.gguf"),
        "folder": str(awq),
        "safetensors": str(awq / "model.safetensors"),
    }


SAYS = {
    "flipped": "corrupt: it claims 18446744073709551615 tensors",
    "garbage": "GGUF version",
    "noise": "not a GGUF file",
    "empty": "it is empty; llama.cpp needs a .gguf file",
    "header-cut": "truncated",
    "data-cut": "truncated: its tensors end at byte",
    "newer": "unsupported quantization",
    "missing": "no such file; check the path",
    "folder": "--engine vllm takes it",
    "safetensors": "llama.cpp needs a .gguf file; --engine vllm takes the folder of this one",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnePool]:
    """One router for all tests of this file."""
    with one_pool(tmp_path_factory.mktemp("error-paths")) as one:
        yield one


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Iterator[OnePool]:
    """A worker that was given every kind of broken model, and a good one last; a router that would wait for ever."""
    folder = tmp_path_factory.mktemp("models")
    models = {**bad_files(folder, model_files["q8_0"]), "sound": str(model_files["q8_0"])}
    arguments = [part for name, path in models.items() for part in ("--model", f"{name}={path}")]
    router = one_pool(tmp_path_factory.mktemp("crowd"), patience_s=PATIENT_S)
    with router as pool, pool.working("crowd", *arguments) as process:
        pool.until(lambda: pool.models("crowd").get("sound", {}).get("state") == "ready")
        yield pool
        assert process.poll() is None, "the worker outlived none of it"


def shown(pool: OnePool) -> str:
    """The fleet's table as ``allsorts fleet`` prints it, on a wide terminal."""
    console = Console(width=1000)
    with console.capture() as captured:
        console.print(fleet_table(pool.fleet()))
    return captured.get()


@pytest.mark.parametrize("kind", sorted(SAYS))
def test_a_model_that_cannot_be_loaded_says_why(kind: str, crowd: OnePool) -> None:
    """To the operator in the table, to the client at once, in one line that names the file and the cause."""
    model = crowd.models("crowd")[kind]
    assert model["state"] == "failed"
    assert SAYS[kind] in model["error"]
    assert "\n" not in model["error"]
    row = next(line for line in shown(crowd).splitlines() if f" {kind} " in line)
    assert "failed: " in row
    assert SAYS[kind] in row
    reply = crowd.chat(kind)  # waiting for the model to come back would outlast the client
    assert reply.status_code == 503
    assert SAYS[kind] in reply.json()["error"]["message"]


def test_a_sound_model_beside_broken_ones_answers(crowd: OnePool) -> None:
    """Nothing of the others' failures touches it."""
    reply = crowd.chat("sound", words="What is the capital of France?", max_tokens=16)
    assert "Paris" in reply.json()["choices"][0]["message"]["content"]


def test_a_context_that_does_not_fit_memory_is_refused_before_loading(
    pool: OnePool, model_files: dict[str, Path]
) -> None:
    """With what is needed, what there is, and what to change; the machine never begins to swap."""
    arguments = ["--model", f"huge={model_files['q8_0']}", "--context", "1000000", "--slots", "64"]
    with pool.working("hungry", *arguments) as process:
        pool.until(lambda: pool.models("hungry").get("huge", {}).get("state") == "failed")
        error = pool.models("hungry")["huge"]["error"]
        assert re.search(r"needs 137[34]\.\d GiB", error)
        assert "lower --context or --slots" in error
        reply = pool.chat("huge")
        assert reply.status_code == 503
        assert "lower --context or --slots" in reply.json()["error"]["message"]
        assert process.poll() is None


def test_memory_that_cannot_be_had_after_all_is_one_line(pool: OnePool, model_files: dict[str, Path]) -> None:
    """A limit the machine's figures do not show (RLIMIT_AS): llama.cpp is refused its KV cache, the worker stays."""
    arguments = ["--model", f"tight={model_files['q8_0']}", "--context", "8192", "--slots", "32"]
    with pool.working("limited", *arguments, memory_limit_bytes=5 * 2**30) as process:
        pool.until(lambda: pool.models("limited").get("tight", {}).get("state") == "failed")
        error = pool.models("limited")["tight"]["error"]
        assert "memory" in error
        assert "lower --slots or --context" in error
        assert pool.chat("tight").status_code == 503
        assert process.poll() is None


def stream(pool: OnePool, model: str, max_tokens: int) -> Iterator[dict[str, object]]:
    """The events of one streamed answer, to its end."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count as far as you can."}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    with httpx.stream("POST", f"{pool.url}/v1/chat/completions", json=body, timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def text_of(events: list[dict[str, object]]) -> str:
    choices = [one["choices"][0] for one in events if one.get("choices")]  # type: ignore[index]
    return "".join(one["delta"].get("content") or "" for one in choices)


def test_an_engine_thread_that_dies_is_started_again_and_the_stream_goes_on(
    pool: OnePool, model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer continues where it stopped, word for word; the model is ready again; the log names the cause."""
    trigger = pool.folder / "break-now"
    monkeypatch.setenv("BREAK_ENGINE_WHEN", str(trigger))
    with pool.working(
        "mortal", "--model", f"phoenix={model_files['q8_0']}", module="tests.support.breaking_worker"
    ) as process:
        pool.until(lambda: pool.models("mortal").get("phoenix", {}).get("state") == "ready")
        whole = text_of(list(stream(pool, "phoenix", 48)))
        events = []
        for event in stream(pool, "phoenix", 48):
            events.append(event)
            if len(events) == 10:
                trigger.touch()
        assert not trigger.exists(), "the engine never died"
        assert text_of(events) == whole
        assert pool.chat("phoenix").status_code == 200
        assert process.poll() is None
    assert "the cable was pulled" in pool.said_by("mortal")


def test_an_engine_that_keeps_dying_ends_its_worker(
    pool: OnePool, model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts are bounded; the client of the last one gets the cause, the worker leaves with status 1."""
    trigger = pool.folder / "break-always"
    monkeypatch.setenv("BREAK_ENGINE_WHEN", str(trigger))
    with pool.working(
        "doomed", "--model", f"sisyphus={model_files['q8_0']}", module="tests.support.breaking_worker"
    ) as process:
        pool.until(lambda: pool.models("doomed").get("sisyphus", {}).get("state") == "ready")
        replies = []
        for _ in range(4):
            pool.until(lambda: not trigger.exists() and pool.models("doomed")["sisyphus"]["state"] == "ready")
            trigger.touch()
            replies.append(pool.chat("sisyphus"))
            if process.poll() is not None:
                break
        assert process.wait(30) == 1
        assert replies[-1].status_code in (502, 503)
        assert replies[-1].json()["error"]["message"]
        pool.until(lambda: pool.worker("doomed").get("state") in (None, "gone"))
    assert "the engine keeps dying" in pool.said_by("doomed")


def test_a_killed_worker_ends_its_streams_and_may_come_back(pool: OnePool, model_files: dict[str, Path]) -> None:
    """SIGKILL, with an answer half said and nobody else to go on: an error after the router's patience and before the
    client's; a new process serves again.
    """
    model = ("--model", f"lonely={model_files['q8_0']}")
    with pool.working("victim", *model) as process:
        pool.until(lambda: pool.models("victim").get("lonely", {}).get("state") == "ready")
        events = []
        for event in stream(pool, "lonely", 400):
            events.append(event)
            if len(events) == 8:
                process.send_signal(signal.SIGKILL)
        assert len(events) > 8, "it ended before it was killed"
        assert "error" in events[-1]
        assert end(process, signal.SIGTERM) == -signal.SIGKILL
    pool.until(lambda: pool.worker("victim").get("state") in (None, "gone"))
    with pool.working("victim", *model):
        pool.until(lambda: pool.models("victim").get("lonely", {}).get("state") == "ready")
        assert pool.chat("lonely").status_code == 200
