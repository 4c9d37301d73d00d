"""One worker as a Ray actor: the very process that ``allsorts worker`` is, watched over on a node of the cluster.

The worker is a child process, not the actor's own event loop. An engine that crashes, hangs or eats its memory takes
its process with it and nothing of Ray's; signals mean what they mean everywhere (SIGTERM drains); and the process may
have an interpreter of its own (``ALLSORTS_PYTHON_VLLM=/…/bin/python``), so that one node has an environment for each
engine and Ray's is none of them. What Ray gives the actor, it passes on: ``CUDA_VISIBLE_DEVICES`` holds the GPUs that
were set aside for it, all of one node, which is what tensor parallel wants.

It dials the routers as every worker does: placement cannot tell them apart.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import ray

from router.fleet.node_runner import WORKER_LABEL, WayIn, WorkerSpec

PYTHON = "ALLSORTS_PYTHON_"
"""And an engine's name in capitals: the interpreter that has it, on this node. Without: the actor's own."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
WELL_AFTER_S = 60.0
"""A worker that ran for so long did not crash because it was started."""

MAX_CRASHES = 6
"""In a row, each soon after it was started: then it is given up, and the last one's line is the reason."""

KILLED_AFTER_S = 10.0
"""Behind the drain: what is left then has hung."""


class WorkerActor:
    """Starts the worker, starts it again when it crashed, and ends it. Every method but ``stop`` returns at once."""

    def __init__(self, spec: WorkerSpec, way_in: WayIn) -> None:
        self._spec = spec
        self._folder = Path(platformdirs.user_state_dir("allsorts")) / "actors" / spec.name.replace("/", "_")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config = self._folder / "worker.toml"
        self._config.touch(mode=0o600)  # there may be a token in it
        self._config.write_text(as_toml(worker_config(spec, way_in, self._folder)))
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._given_up = ""
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def status(self) -> tuple[str, bool, str]:
        """Node id, whether it runs or is about to, and why not."""
        return self._spec.node_id, not self._given_up, self._given_up

    def gpus(self) -> int:
        """How many are set aside for it."""
        return self._spec.gpus

    def process_id(self) -> int:
        """Of the worker; 0 while there is none."""
        process = self._process
        return 0 if process is None or process.poll() is not None else process.pid

    def stop(self, drain_s: float) -> None:
        """SIGTERM: it says that it drains, finishes what runs, and leaves. Returns when it has, by ending the actor."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.end_worker(drain_s)
        ray.actor.exit_actor()  # as meant: Ray does not start it again, and its name is free

    def end_worker(self, drain_s: float) -> None:
        """Without the actor."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(drain_s + KILLED_AFTER_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _watch(self) -> None:
        crashes, wait_s = 0, FIRST_WAIT_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > WELL_AFTER_S:
                crashes, wait_s = 0, FIRST_WAIT_S
            crashes += 1
            if crashes >= MAX_CRASHES:
                self._given_up = f"it ended {crashes} times in a row, last with {code}: {self._last_line()}"
                return
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _run(self) -> int:
        command = [interpreter(self._spec.engine), "-m", "workers.cli.worker", "--config", str(self._config)]
        with (self._folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self._process.wait()

    def _last_line(self) -> str:
        lines = (self._folder / "worker.log").read_text(errors="replace").splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def worker_config(spec: WorkerSpec, way_in: WayIn, folder: Path) -> dict[str, object]:
    """What ``allsorts worker --config`` reads."""
    options = {"tensor_parallel": spec.gpus} if spec.engine == "vllm" and spec.gpus > 1 else {}
    model = {
        "name": spec.model,
        "path": spec.path,
        "quantization": spec.quantization,
        "context_tokens": spec.context_tokens,
        "slots": spec.slots,
        "order": spec.order,
        "options": options,
    }
    return {
        **({"enrol": way_in.enrol, "token": way_in.token} if way_in.enrol else {"routers": list(way_in.routers)}),
        "node": spec.name,
        "engine": spec.engine,
        "models": [model],
        "labels": {**spec.labels, WORKER_LABEL: spec.name},
        "state_dir": str(folder / "state"),
        "benchmark": "quick",
    }


def as_toml(values: Mapping[str, object]) -> str:
    """One line for each key. Texts and numbers are written alike in TOML and JSON."""
    return "".join(f"{json.dumps(key)} = {_inline(value)}\n" for key, value in values.items())


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def interpreter(engine: str) -> str:
    """Which Python has this engine, on this node."""
    return os.environ.get(PYTHON + engine.upper(), sys.executable)


def with_parent(command: list[str]) -> list[str]:
    """It ends with whoever started it, where the system can, and at once: it would serve on beside its successor, under
    the same name.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command
