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
    """``allsorts serve`` of ``environment`` under Ray Serve; state and logs below ``folder``."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._port, grpc_port, self._enrol_port = free_ports(3)
        folder.mkdir(parents=True)
        (folder / "allsorts.toml").write_text(
            f'state_dir = "{folder / "state"}"\n[http]\nport = {self._port}\n'
            f"[grpc]\nport = {grpc_port}\nenrol_port = {self._enrol_port}\nplain_loopback = false\n"
        )
        command = [environment.allsorts, "serve", "--config", str(folder / "allsorts.toml")]
        self._child = Child("head", command, log=folder / "head.log", environment=clean(folder))

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
        made = run(
            [self._environment.allsorts, "token", "create", "--state-dir", str(self._folder / "state")], deadline_s=60
        )
        line = made.splitlines()[0].split()[2:]
        state = str(self._folder / node)
        command = [environment.allsorts, "join", *line, *arguments, "--node", node, "--yes", "--quick-benchmark"]
        worker = Child(
            node,
            [*command, "--state-dir", state],
            log=self._folder / f"{node}.log",
            environment=clean(self._folder / f"{node}-home"),
        )
        try:
            self._until(lambda: self._state_of(node) == "ready", worker, READY_WITHIN_S)
            return self._ask(node, model)
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

    def _state_of(self, node: str) -> str:
        fleet = self._get("/admin/fleet") or {}
        return next((str(one["state"]) for one in fleet.get("workers", ()) if one["node"] == node), "")

    def _ask(self, node: str, model: str) -> str:
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
