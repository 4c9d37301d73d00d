"""Who is measured, and how each is started: ours in four shapes, other people's routers, and nobody in between."""

import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.router.paced_backend import STEP_S
from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all

PEERS = Path(".venv-peers/bin")
READY_WITHIN_S, STOP_WITHIN_S = 120.0, 40.0
SLOTS = 2400

_PROFILE = """# A step takes so long whatever its batch, a prompt next to nothing.
machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 4096
slots = {slots}
[speed]
base_s = {step_s}
per_sequence_s = 0.0
per_context_token_s = 0.0
prefill_tokens_per_s = 1e9
prefill_base_s = 0.0
prefill_attention = 0.0
kv_capacity_tokens = 20000000
chunk_tokens = 65536
[behaviour]
noise = 0.0
hidden = 0.0
load_s = 0.1
"""
_UNPACED_STEP_S = 0.0005
"""Of the simulated engine, which has no step of no length: 64 streams ask for 128,000 tokens a second."""

_LITELLM = """litellm_settings: {telemetry: false, drop_params: true}
general_settings: {disable_spend_logs: true}
model_list:
"""
_LITELLM_MODEL = """  - model_name: {name}
    litellm_params: {{model: openai/{name}, api_base: {url}/v1, api_key: none}}
"""
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch one
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",  # the backend says one word: it would break off after a hundred
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # sglang-router would fetch a tokenizer for the backend's model
    "HF_ENDPOINT": "http://127.0.0.1:9",
}


@dataclass(slots=True, kw_only=True)
class Contender:
    """Somebody up and ready. ``router`` and ``workers`` are the processes whose trees are measured; direct has none."""

    name: str
    url: str
    router: Child | None = None
    workers: list[Child] = field(default_factory=list)


class Starter:
    """Starts contenders in front of one backend; everything ends with ``stop``."""

    def __init__(self, here: Checkout, folder: Path, backend: str) -> None:
        self._here = here
        self._folder = folder.resolve()
        self._backend = backend
        self._children: list[Child] = []

    def start(self, name: str) -> Contender:
        """Up and answering. Raises RuntimeError with the end of its log."""
        return CONTENDERS[name](self, name)

    def stop(self) -> None:
        """End all, last started first."""
        stop_all(self._children, STOP_WITHIN_S)

    def direct(self, name: str) -> Contender:
        """Nobody in between."""
        return Contender(name=name, url=self._backend)

    def ours(self, name: str) -> Contender:
        """A router and one worker: simulated, or one that asks the backend (``-openai``); ``serve-`` is Ray Serve."""
        port, grpc_port = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        arguments = ["serve", "--port", str(port), "--grpc-port", str(grpc_port), *self._state(name)]
        arguments += [] if name.startswith("serve") else ["--without-ray"]
        router = self._child(f"{name}-router", self._here.command(*arguments), self._here.environment)
        self._until(lambda: answers(f"{url}/healthz"), router)
        there = ("--router", f"127.0.0.1:{grpc_port}", "--node", name, "--slots", str(SLOTS), "--no-benchmark")
        if name.endswith("openai"):
            engine = ["--engine", "openai", "--base-url", f"{self._backend}/v1"]
        else:
            engine = ["--engine", "simulated"]
            engine += [flag for model in STEP_S for flag in ("--model", self._profile(model))]
        asked = self._here.command("worker", *there, *engine, *self._state(f"{name}-worker"))
        worker = self._child(f"{name}-worker", asked, self._here.environment)
        self._until(lambda: all(serves(url, model) for model in STEP_S), worker)
        return Contender(name=name, url=url, router=router, workers=[worker])

    def vllm_router(self, name: str) -> Contender:
        """Of the vLLM project, in Rust."""
        return self._peer(name, "vllm-router", *self._rust())

    def sglang_router(self, name: str) -> Contender:
        """Of the SGLang project, in Rust."""
        return self._peer(name, "sglang-router", "launch", *self._rust())

    def _rust(self) -> tuple[str, ...]:
        """Both descend from one router, and take the same flags."""
        quiet = ("--log-level", "error", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()))
        return ("--worker-urls", self._backend, "--policy", "round_robin", *quiet)

    def litellm(self, name: str) -> Contender:
        """In Python, with a model list."""
        config = self._folder / "litellm.yaml"
        config.write_text(_LITELLM + "".join(_LITELLM_MODEL.format(name=model, url=self._backend) for model in STEP_S))
        return self._peer(name, "litellm", "--config", str(config), "--num_workers", "1")

    def _peer(self, name: str, program: str, *arguments: str) -> Contender:
        port = free_port()
        command = [str((PEERS / program).absolute()), *arguments, "--host", "127.0.0.1", "--port", str(port)]
        router = self._child(name, command, {**os.environ, **QUIET})
        url = f"http://127.0.0.1:{port}"
        self._until(lambda: all(serves(url, model) for model in STEP_S), router)
        return Contender(name=name, url=url, router=router)

    def _profile(self, model: str) -> str:
        path = self._folder / f"{model}.toml"
        path.write_text(_PROFILE.format(slots=SLOTS, step_s=STEP_S[model] or _UNPACED_STEP_S), encoding="utf-8")
        return f"{model}={path}"

    def _state(self, name: str) -> tuple[str, str]:
        return "--state-dir", str(self._folder / name)

    def _child(self, name: str, command: list[str], environment: dict[str, str]) -> Child:
        self._children.append(Child(name, command, log=self._folder / f"{name}.log", environment=environment))
        return self._children[-1]

    def _until(self, reached: Callable[[], bool], child: Child) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not reached():
            if not child.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{child.name} is not ready; the end of its log:\n{child.tail()}")
            time.sleep(0.2)


CONTENDERS: dict[str, Callable[[Starter, str], Contender]] = {
    "direct": Starter.direct,
    "uvicorn": Starter.ours,
    "uvicorn-openai": Starter.ours,
    "serve": Starter.ours,
    "serve-openai": Starter.ours,
    "vllm-router": Starter.vllm_router,
    "sglang-router": Starter.sglang_router,
    "litellm": Starter.litellm,
}
"""By name: ours are ``uvicorn`` and ``serve``, each with a simulated worker or one that asks the backend."""


@contextmanager
def backend(here: Checkout) -> Iterator[str]:
    """The paced backend's URL."""
    command, pipe = here.module("loadtest.bench.router.paced_backend"), subprocess.PIPE
    with subprocess.Popen(command, env=here.environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield _first_line(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def peers_are_installed() -> bool:
    """``make bench-router`` installs them."""
    return (PEERS / "vllm-router").exists()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def serves(url: str, model: str) -> bool:
    """Whether a one-token answer comes."""
    body = b'{"model":"%b","messages":[{"role":"user","content":"Ready?"}],"max_tokens":1}' % model.encode()
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    asked = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
