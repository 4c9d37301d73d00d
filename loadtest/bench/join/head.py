"""A pool's head in an environment of its own, over TLS on loopback, and workers that join it with a token."""

import json
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtest.bench.join.environments import Environment, run
from router.cli.support.processes import Child, stop_all

STARTS_WITHIN_S = 120.0
READY_WITHIN_S = 300.0
POLL_S = 0.25


class NotServed(Exception):
    """A head that does not start, a worker that does not become ready or does not answer; with the end of its log."""


class Head:
    """``allsorts serve`` by ``program``; state and logs below ``folder``. Workers dial ``host``, clients loopback."""

    def __init__(
        self,
        program: list[str],
        folder: Path,
        *,
        environment: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        options: tuple[str, ...] = (),
    ) -> None:
        self._program = program
        self._folder = folder
        self._environment = environment or {}
        self._port, *ports = free_ports(4)
        self.state = folder / "state"
        folder.mkdir(parents=True)
        named = zip(("port", "enrol_port", "install_port"), ports, strict=True)
        grpc = "".join(f"{name} = {port}\n" for name, port in named)
        (folder / "allsorts.toml").write_text(
            f'state_dir = "{self.state}"\n[http]\nport = {self._port}\n'
            f'[grpc]\nhost = "{host}"\nplain_loopback = false\n{grpc}'
        )
        command = [*program, "serve", "--config", str(folder / "allsorts.toml"), *options]
        self._child = Child("head", command, log=folder / "head.log", environment=self._environment)

    def lines(self) -> tuple[str, str]:
        """A fresh token's: for a machine that has allsorts, and for one that has Python alone."""
        made = self.allsorts("token", "create").splitlines()
        return made[0], made[1]

    def allsorts(self, *arguments: str) -> str:
        """A command on the head's own state; what it prints."""
        command = [*self._program, *arguments, "--state-dir", str(self.state)]
        return run(command, deadline_s=120, environment={**os.environ, **self._environment})

    def __enter__(self) -> Self:
        """Once it answers. Raises NotServed."""
        try:
            self._until(lambda: self._get("/healthz") is not None, self._child, STARTS_WITHIN_S)
        except NotServed:
            stop_all([self._child])
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stopped."""
        stop_all([self._child], deadline_s=30.0)

    def join_and_ask(self, environment: Environment, node: str, model: str, arguments: tuple[str, ...]) -> str:
        """A worker joins with a token, becomes ready, answers one request, and leaves. Its answer. Raises NotServed."""
        line = self.lines()[0].split()[2:]
        state = str(self._folder / node)
        command = [environment.allsorts, "join", *line, *arguments, "--node", node, "--yes", "--quick-benchmark"]
        worker = Child(
            node,
            [*command, "--state-dir", state],
            log=self._folder / f"{node}.log",
            environment=clean(self._folder / f"{node}-home"),
        )
        try:
            self.until_ready(node, worker)
            return self.ask(node, model)
        finally:
            stop_all([worker], deadline_s=40.0)

    def _until(self, there: Any, child: Child, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not there():
            if not child.alive:
                raise NotServed(f"{child.name} ended:\n{child.tail()}")
            if time.monotonic() > deadline:
                raise NotServed(f"{child.name} not ready within {within_s:.0f} s:\n{child.tail()}")
            time.sleep(POLL_S)

    def until_ready(self, node: str, worker: Child) -> None:
        """Raises NotServed."""
        self._until(lambda: self.states().get(node) == "ready", worker, READY_WITHIN_S)

    def states(self) -> dict[str, str]:
        """Node → state."""
        fleet = self._get("/admin/fleet") or {}
        return {str(one["node"]): str(one["state"]) for one in fleet.get("workers", ())}

    def ask(self, node: str, model: str) -> str:
        """One request, answered by that node. Raises NotServed."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        try:
            status, headers, reply = self._call("/v1/chat/completions", body)
        except (OSError, ValueError) as error:
            raise NotServed(f"{node}: {error}") from None
        by, text = headers.get("x-allsorts-worker", ""), str(reply["choices"][0]["message"]["content"] or "")
        if status != 200 or by != node or not text:
            raise NotServed(f"{node}: HTTP {status} from {by or 'nobody'}: {text!r}")
        return text

    def _get(self, path: str) -> Any:
        try:
            return self._call(path, None)[2]
        except (OSError, ValueError):
            return None

    def _call(self, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, headers, json.loads(answer.read())


def clean(home: Path) -> dict[str, str]:
    """What a machine that never saw this checkout would have: no path to it, a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    folders = {f"XDG_{one}_HOME": str(home / one.lower()) for one in ("DATA", "STATE", "CACHE", "CONFIG")}
    return {"PYTHONPATH": "", "HOME": str(home), "PATH": os.environ["PATH"], **folders}


def free_ports(count: int) -> tuple[int, ...]:
    """Loopback ports nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for one in probes:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in probes)
    finally:
        for one in probes:
            one.close()
