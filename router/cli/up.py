"""``allsorts up``: a router and two local workers with different quantizations of a real model, ready to ask."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.status import Status

from router.cli.fleet import fleet_table
from router.cli.support.processes import Child, stop_all
from router.cli.support.tables import wide_console
from router.cli.support.terminal import Terminal
from router.cli.support.trained_context import trained_context
from router.errors import ConfigError
from router.ray.settings import port_taken

MODEL = "smollm2-135m"
READY_DEADLINE_S = 180.0
MEASURED_WITHIN_S = 75.0
"""More for each worker: on one machine they are measured in turn, each for so long at the most."""

console = Terminal(stderr=True)


def up(
    port: Annotated[int, typer.Option(help="Where clients connect.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="Where workers dial.")] = 8100,
    models: Annotated[Path, typer.Option(help="Folder of the model files; made when missing.")] = Path("build/models"),
    quantizations: Annotated[str, typer.Option(help="One worker each.")] = "q8_0,q4_k_m",
    slots: Annotated[int, typer.Option(help="Sequences each worker runs together.")] = 8,
    context: Annotated[
        int, typer.Option(min=0, help="Longest prompt plus output, in tokens; 0: as the model was trained.")
    ] = 0,
    without_ray: Annotated[bool, typer.Option(help="Plain uvicorn instead of Ray Serve.")] = False,
    state_dir: Annotated[Path, typer.Option(help="Logs and state of this pool.")] = Path(".allsorts"),
    check: Annotated[bool, typer.Option("--check", help="Ask one question once ready, then stop.")] = False,
) -> None:
    """Start a router and one llama.cpp worker per quantization; serve until Ctrl-C.

    Examples:
      allsorts up

      allsorts up --port 9000 --quantizations q8_0,q4_k_m,q4_0

    """
    _check_extras(without_ray=without_ray)
    wanted = [name.strip() for name in quantizations.split(",") if name.strip()]
    for flag, number in (("--port", port), ("--grpc-port", grpc_port)):
        if port_taken("127.0.0.1", number):
            raise ConfigError(f"port {number} is taken; choose another: make up ARGS='{flag} {number + 10}'")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _make_models(models, wanted)
    context = context or trained_context([_file(models, one) for one in wanted], slots)
    url = f"http://127.0.0.1:{port}"
    children: list[Child] = []
    try:
        with console.status("starting the router") as status:
            children.append(_router(port, grpc_port, state_dir, without_ray=without_ray))
            _wait(lambda: _answers(url), children, stop, status, "the router")
            children += [_worker(one, models, grpc_port, slots, context, state_dir) for one in wanted]
            _wait(lambda: _ready_workers(url) >= len(wanted), children, stop, status, "the workers")
        if stop.is_set():
            return
        _welcome(url, wanted)
        if check:
            _ask(url)
            return
        _watch(children, stop)
    finally:
        console.print("stopping", style="dim")
        stop_all(children)


def _check_extras(*, without_ray: bool) -> None:
    packages = {"llama_cpp": "llama", "uvicorn" if without_ray else "ray": "router"}
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        extras = ",".join(packages[name] for name in missing)
        raise ConfigError(
            f"a pool on this machine needs {' and '.join(missing)}: install with: pip install 'allsorts[{extras}]'"
        )


def _make_models(folder: Path, quantizations: list[str]) -> None:
    command = [sys.executable, "-m", "workers.models.smollm2", "--out", str(folder)]
    done = subprocess.run([*command, "--quantizations", ",".join(quantizations)], check=False)
    if done.returncode != 0:
        raise ConfigError(f"the model files could not be made in {folder}; see the line above")


def _router(port: int, grpc_port: int, state_dir: Path, *, without_ray: bool) -> Child:
    arguments = ["serve", "--port", str(port), "--grpc-port", str(grpc_port), "--state-dir", str(state_dir / "router")]
    if without_ray:
        arguments.append("--without-ray")
    return Child("router", _allsorts(*arguments), log=state_dir / "logs" / "router.log")


def _worker(quantization: str, models: Path, grpc_port: int, slots: int, context: int, state_dir: Path) -> Child:
    file = _file(models, quantization)
    arguments = _allsorts(
        "worker", "--router", f"127.0.0.1:{grpc_port}", "--engine", "llama.cpp", "--model", f"{MODEL}={file}",
        "--node", f"local-{quantization}", "--threads", "1", "--slots", str(slots), "--context", str(context),
        "--state-dir", str(state_dir / f"worker-{quantization}"),
    )  # fmt: skip
    return Child(
        f"worker {quantization}",
        arguments,
        log=state_dir / "logs" / f"worker-{quantization}.log",
        environment={"OMP_NUM_THREADS": "1"},
    )


def _file(models: Path, quantization: str) -> Path:
    return models / f"{MODEL}-{quantization}.gguf"


def _allsorts(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "router.cli.main", *arguments]


def _wait(ready: Callable[[], bool], children: list[Child], stop: threading.Event, status: Status, what: str) -> None:
    started = time.monotonic()
    while not stop.is_set() and not ready():
        for child in children:
            if not child.alive:
                raise ConfigError(f"{child.name} ended while starting; the end of {child.log}:\n{child.tail()}")
        waited = time.monotonic() - started
        if waited > READY_DEADLINE_S + MEASURED_WITHIN_S * (len(children) - 1):
            raise ConfigError(f"{what} not ready after {waited:.0f} s; see the logs in {children[0].log.parent}")
        status.update(f"waiting for {what} ({waited:.0f} s)")
        stop.wait(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _fleet(url: str) -> dict[str, Any]:
    reply: dict[str, Any] = httpx.get(f"{url}/admin/fleet", timeout=5).json()
    return reply


def _ready_workers(url: str) -> int:
    try:
        return sum(worker["state"] == "ready" for worker in _fleet(url)["workers"])
    except (httpx.HTTPError, KeyError):
        return 0


def _welcome(url: str, quantizations: list[str]) -> None:
    out = wide_console()
    out.print(f"\nThe endpoint is [bold]{url}/v1[/bold]\n")
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    out.print(f"curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n", soft_wrap=True)
    out.print(
        "python -c 'from openai import OpenAI; "
        f'print(OpenAI(base_url="{url}/v1", api_key="none").chat.completions.create('
        f'model="{MODEL}@{quantizations[0]}", '
        'messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0)'
        ".choices[0].message.content)'\n",
        soft_wrap=True,
        markup=False,
    )
    out.print(fleet_table(_fleet(url)))
    out.print("\nCtrl-C stops everything.")


def _ask(url: str) -> None:
    question = {"model": f"{MODEL}@q8_0", "temperature": 0, "max_tokens": 32,
                "messages": [{"role": "user", "content": "What is the capital of France?"}]}  # fmt: skip
    reply = httpx.post(f"{url}/v1/chat/completions", json=question, timeout=60)
    reply.raise_for_status()
    Terminal().print(reply.json()["choices"][0]["message"]["content"], markup=False)


def _watch(children: list[Child], stop: threading.Event) -> None:
    """Serve until asked to stop; a worker that ends is reported, the router's end ends everything."""
    reported: set[str] = set()
    while not stop.wait(0.5):
        for child in children:
            if not child.alive and child.name not in reported:
                reported.add(child.name)
                console.print(f"{child.name} ended; the end of {child.log}:\n{child.tail()}", style="red", markup=False)
        if not children[0].alive:
            raise ConfigError("the router ended")
