"""The six machines of a fleet file, each as a worker of ours or behind an OpenAI face; and the routers before them."""

import subprocess
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.router.contenders import PEERS, QUIET, answers, serves
from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all
from workers.engines.simulated.profile import read_profile

READY_WITHIN_S, STOP_WITHIN_S = 120.0, 40.0

_PROFILE = """machine = "{profile}"
[hardware]
bandwidth_gb_s = {bandwidth_gb_s}
prefill_tflops = {prefill_tflops}
decode_tflops = {decode_tflops}
step_base_ms = {step_base_ms}
[model]
shape = "{model}"
quantization = "{quantization}"
context_tokens = 16384
[behaviour]
hidden = 0.1
seed = {seed}
load_s = 0.2
"""
"""``hidden``: what a machine really does differs from what it declares by so much, drawn by the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One row of the fleet, with the profile that both of its shapes run."""

    node: str
    model: str
    profile: Path


def machines(fleet: Path, folder: Path, *, slowed: float = 1.0) -> list[Machine]:
    """Of a fleet file, each ``slowed`` times as slow in everything and saying so; profiles are written to ``folder``.

    Raises OSError, TOMLDecodeError, KeyError, ProfileError.
    """
    rows: list[dict[str, Any]] = tomllib.loads(fleet.read_text(encoding="utf-8"))["worker"]
    found = []
    for seed, row in enumerate(rows, 1):
        path = folder.resolve() / f"{row['node']}.toml"
        path.write_text(_PROFILE.format(**row, **_speeds(row, slowed), seed=seed), encoding="utf-8")
        found.append(Machine(node=row["node"], model=row["model"], profile=path))
    return found


def _speeds(row: dict[str, Any], slowed: float) -> dict[str, float]:
    machine = read_profile(row["profile"], shape=row["model"], quantization=row["quantization"]).machine
    return {
        "bandwidth_gb_s": machine.bandwidth_bytes_per_s / 1e9 / slowed,
        "prefill_tflops": machine.prefill_flops / 1e12 / slowed,
        "decode_tflops": machine.decode_flops / 1e12 / slowed,
        "step_base_ms": 1e3 * machine.step_base_s * slowed,
    }


class Fleet:
    """Six machines and one router before them, up for the length of the block: fresh for every run, since a router that
    does not pass on that its clients have left leaves slow machines busy for minutes.
    """

    def __init__(self, here: Checkout, folder: Path, fleet: Path, *, slowed: float = 1.0) -> None:
        self._here = here
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self.machines = machines(fleet, self._folder, slowed=slowed)
        self.model = self.machines[0].model
        self._children: list[Child] = []
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self._children, STOP_WITHIN_S)
        self._exit.close()

    def behind(self, router: str) -> str:
        """The URL of a router with all machines: ``uvicorn`` or ``serve`` is ours, else ``PROGRAM:POLICY``."""
        program, _, policy = router.partition(":")
        return self._peer(program, policy) if policy else self._ours(serve=program == "serve")

    def _ours(self, *, serve: bool) -> str:
        port, grpc_port = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        arguments = ["serve", "--port", str(port), "--grpc-port", str(grpc_port), *self._state("router")]
        router = self._child("router", self._here.command(*arguments, *([] if serve else ["--without-ray"])))
        self._until(lambda: answers(f"{url}/healthz"), router)
        for one in self.machines:
            there = ("--router", f"127.0.0.1:{grpc_port}", "--node", one.node, "--engine", "simulated")
            model = ("--model", f"{one.model}={one.profile}", "--no-benchmark")
            self._child(one.node, self._here.command("worker", *there, *model, *self._state(one.node)))
        self._until(lambda: _ready(url) == len(self.machines), router)
        return url

    def _peer(self, program: str, policy: str) -> str:
        faces = [self._face(one) for one in self.machines]
        port = free_port()
        command = [str((PEERS / program).absolute()), *(["launch"] if program == "sglang-router" else [])]
        command += ["--worker-urls", *faces, "--policy", policy, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--log-level", "error", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        child = self._child(program, command)
        url = f"http://127.0.0.1:{port}"
        self._until(lambda: serves(url, self.model), child)
        return url

    def _face(self, one: Machine) -> str:
        command = self._here.module("loadtest.bench.mixed.face", one.node, one.model, str(one.profile))
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=self._here.environment, stdin=pipe, stdout=pipe, text=True)
        self._exit.callback(_end, process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the face of {one.node} ended while starting")
        return url

    def _state(self, name: str) -> tuple[str, str]:
        return "--state-dir", str(self._folder / name)

    def _child(self, name: str, command: list[str]) -> Child:
        environment = {**self._here.environment, **QUIET}
        self._children.append(Child(name, command, log=self._folder / f"{name}.log", environment=environment))
        return self._children[-1]

    def _until(self, reached: Callable[[], bool], child: Child) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not reached():
            if not child.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{child.name} is not ready; the end of its log:\n{child.tail()}")
            time.sleep(0.2)


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _ready(url: str) -> int:
    import json
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/admin/fleet", timeout=5) as reply:
            return sum(one["state"] == "ready" for one in json.loads(reply.read())["workers"])
    except (OSError, ValueError, KeyError):
        return 0
