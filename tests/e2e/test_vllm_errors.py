"""What can go wrong with vLLM, on its real engine, worker and router: one clear line to client and fleet table.

The worker recovers or leaves, and no request hangs. What is alike for all engines is in tests/integration.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.integration.test_error_paths import shown, stream, text_of
from tests.support.one_pool import PATIENT_S, OnePool, one_pool
from tests.support.processes import command_line, family_of, name_of

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

VLLM_PYTHON = str(REPOSITORY / ".venv-vllm" / "bin" / "python")
SIZE = ("--engine", "vllm", "--slots", "4", "--context", "512")
LOADS_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnePool]:
    """One router for all tests of this file."""
    with one_pool(tmp_path_factory.mktemp("vllm-errors")) as one:
        yield one


def like(good: Path, folder: Path, weights: bytes | None = None, **config: Any) -> str:
    """A model's folder that differs from a good one in its weights or its config.json."""
    folder.mkdir(parents=True)
    for file in good.iterdir():
        if file.name == "config.json":
            (folder / file.name).write_text(json.dumps(json.loads(file.read_text()) | config))
        elif file.suffix == ".safetensors" and weights is not None:
            (folder / file.name).write_bytes(weights)
        else:
            shutil.copy(file, folder / file.name)
    return str(folder)


def bad_folders(here: Path, awq: Path, gguf: Path) -> dict[str, str]:
    """Each kind of broken model by name, with its path."""
    plain = awq.with_name(awq.name.replace("-awq", "-fp16"))
    says_awq = json.loads((awq / "config.json").read_text())["quantization_config"]
    weights = (awq / "model.safetensors").read_bytes()
    header_ends = 8 + int.from_bytes(weights[:8], "little")

    def claiming(kind: str, **quantization: Any) -> str:
        return like(plain, here / kind, quantization_config=quantization)

    return {
        "missing": str(here / "missing"),
        "file": str(gguf),
        "empty": str(shutil.copytree(awq, here / "empty", ignore=shutil.ignore_patterns("*.safetensors"))),
        "cut": like(awq, here / "cut", weights[: len(weights) // 2]),
        "corrupt": like(awq, here / "corrupt", b"\xff" * 16 + weights[16:]),
        "torn": like(awq, here / "torn", weights[:8] + b"{" * (header_ends - 8) + weights[header_ends:]),
        "unknown": claiming("unknown", quant_method="bitsandbytes", load_in_4bit=True),
        "elsewhere": claiming("elsewhere", quant_method="mxfp4"),
        "mislabelled": claiming("mislabelled", **says_awq),
        "fp8": claiming("fp8", quant_method="modelopt", quant_algo="FP8"),
    }


SAYS = {
    "missing": "no such folder; check the path",
    "file": "GGUF files: --engine llama.cpp",
    "empty": "has no weights",
    "cut": "truncated: its tensors end at byte",
    "corrupt": "corrupt: its header claims",
    "torn": "corrupt safetensors header",
    "unknown": "unsupported quantization nf4 (bitsandbytes)",
    "elsewhere": "unsupported quantization mxfp4",
    "mislabelled": "says awq, its files hold no weights in that format",
    "fp8": "unsupported quantization fp8 (modelopt)",  # vLLM would load it, and its first step end its core
}


@pytest.fixture(scope="module")
def crowd(
    tmp_path_factory: pytest.TempPathFactory, awq_folder: Path, model_files: dict[str, Path]
) -> Iterator[OnePool]:
    """A worker that was given every kind of broken model, and a good one last; a router that would wait for ever."""
    folder = tmp_path_factory.mktemp("models")
    models = {**bad_folders(folder, awq_folder, model_files["q8_0"]), "sound": str(awq_folder)}
    arguments = [part for name, path in models.items() for part in ("--model", f"{name}={path}")]
    router = one_pool(tmp_path_factory.mktemp("crowd"), patience_s=PATIENT_S)
    with router as pool, pool.working("crowd", *SIZE, *arguments, python=VLLM_PYTHON) as process:
        pool.until(lambda: pool.models("crowd").get("sound", {}).get("state") == "ready", LOADS_WITHIN_S)
        yield pool
        assert process.poll() is None, "the worker outlived none of it"


@pytest.mark.parametrize("kind", sorted(SAYS))
def test_a_model_that_vllm_cannot_serve_says_why(kind: str, crowd: OnePool) -> None:
    """To the operator in the table, to the client at once, in one line that names the folder and the cause."""
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
    """Nothing of the others' failures touches it, not even a core process that died."""
    reply = crowd.chat("sound", words="What is the capital of France?", max_tokens=16)
    assert "Paris" in reply.json()["choices"][0]["message"]["content"]


SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}, "required": ["name"]}


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0, "max_tokens": 24},
        {"temperature": 1, "seed": 7, "max_tokens": 24},
        {"temperature": 1, "seed": 7, "max_tokens": 40, "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
    ],
)  # fmt: skip
def test_streamed_and_whole_say_the_same(more: dict[str, Any], crowd: OnePool) -> None:
    """Alone on the engine, token by token or at once: text, finish reason and counts."""
    body = {"model": "sound", "messages": [{"role": "user", "content": "Name a colour."}], **more}
    url = f"{crowd.url}/v1/chat/completions"
    whole = httpx.post(url, json=body, timeout=60).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", url, json={**body, **options}, timeout=60) as reply:
        data = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: {")]
    events = [json.loads(one) for one in data]
    reasons = [one["choices"][0]["finish_reason"] for one in events if one["choices"]]
    assert text_of(events) == whole["choices"][0]["message"]["content"] != ""
    assert [one for one in reasons if one] == [whole["choices"][0]["finish_reason"]]
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [events[-1]["usage"][one] for one in counted] == [whole["usage"][one] for one in counted]


def test_memory_that_cannot_be_had_is_one_line(pool: OnePool, awq_folder: Path) -> None:
    """A limit the machine's figures do not show (RLIMIT_AS): the core is refused its KV cache, the worker stays."""
    greedy = pool.folder / "greedy.toml"
    greedy.write_text(f'[[models]]\nname = "greedy"\npath = "{awq_folder}"\n[models.options]\nkv_gib = 6\n')
    with pool.working(
        "limited", *SIZE, "--config", str(greedy), python=VLLM_PYTHON, memory_limit_bytes=8 * 2**30
    ) as process:
        pool.until(lambda: pool.models("limited").get("greedy", {}).get("state") == "failed", LOADS_WITHIN_S)
        error = pool.models("limited")["greedy"]["error"]
        assert "memory" in error
        assert "lower kv_gib" in error
        assert "\n" not in error
        reply = pool.chat("greedy")
        assert reply.status_code == 503
        assert "lower kv_gib" in reply.json()["error"]["message"]
        assert process.poll() is None


def core_of(process_id: int) -> psutil.Process:
    """The process in which vLLM computes."""
    return next(one for one in family_of(process_id) if "EngineCore" in f"{name_of(one)} {command_line(one)}")


def test_a_killed_core_is_started_again_and_nobody_waits_for_ever(pool: OnePool, awq_folder: Path) -> None:
    """SIGKILL, with an answer half said: it goes on word for word or ends with the cause; so does the next request."""
    with pool.working("mortal", *SIZE, "--model", f"phoenix={awq_folder}", python=VLLM_PYTHON) as process:
        pool.until(lambda: pool.models("mortal").get("phoenix", {}).get("state") == "ready", LOADS_WITHIN_S)
        whole = text_of(list(stream(pool, "phoenix", 48)))
        events: list[dict[str, Any]] = []
        for event in stream(pool, "phoenix", 48):
            events.append(event)
            if len(events) == 10:
                core_of(process.pid).send_signal(signal.SIGKILL)
                pool.until(lambda: "the engine died: " in pool.models("mortal")["phoenix"]["error"])
                assert "the engine died: vLLM's core process of phoenix died" in shown(pool)
        assert len(events) > 10, "it ended before the core was killed"
        if "error" in events[-1]:
            assert "the engine died" in json.dumps(events[-1])
            assert whole.startswith(text_of(events[:-1]))
        else:
            assert text_of(events) == whole
        reply = pool.chat("phoenix")
        assert reply.status_code == 200 or "the engine died" in reply.json()["error"]["message"]
        pool.until(lambda: pool.models("mortal").get("phoenix", {}).get("state") == "ready", LOADS_WITHIN_S)
        assert pool.chat("phoenix").status_code == 200
        assert process.poll() is None
