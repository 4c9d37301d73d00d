"""A router and its workers as processes of their own, in one folder: started by their commands, ended by their ids."""

import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtest.pools.ports import free_port
from router.cli.support.processes import Child, stop_all

LOOK_EVERY_S = 0.1


class PoolProcesses:
    """``allsorts``: turns a command's arguments into a whole command line. ``name``: of the pool, for
    whoever reads that it did not start. Blocks; in an event loop, start and ask from a thread.
    """

    def __init__(
        self,
        folder: Path,
        allsorts: Callable[..., list[str]],
        environment: Mapping[str, str],
        *,
        name: str = "the pool",
        ready_within_s: float = 90.0,
        stop_within_s: float = 30.0,
    ) -> None:
        self.folder = folder.resolve()
        self.port, self.grpc_port = free_port(), free_port()
        self.children: list[Child] = []
        self._allsorts = allsorts
        self._environment = dict(environment)
        self._name = name
        self._ready_within_s = ready_within_s
        self._stop_within_s = stop_within_s

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        """An empty folder: nothing of an earlier run counts."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def start_router(self, *more: str) -> None:
        """Under plain uvicorn; returns when it answers. Raises RuntimeError or TimeoutError."""
        ports = ("--port", str(self.port), "--grpc-port", str(self.grpc_port))
        self.children.append(self.child("router", "serve", "--without-ray", *ports, *more))
        self.until(lambda: self.get("/healthz") is not None, "the router answers")

    def worker(self, name: str, models: Mapping[str, Path]) -> Child:
        """A simulated worker that begins to join; whoever keeps it ends it. ``models``: profiles by name."""
        asked = [text for model, profile in models.items() for text in ("--model", f"{model}={profile}")]
        there = ("--router", f"127.0.0.1:{self.grpc_port}", "--node", name, "--engine", "simulated", "--no-benchmark")
        return self.child(name, "worker", *there, *asked)

    def child(self, name: str, *arguments: str) -> Child:
        """One process, with state and log in the folder under its name."""
        command = self._allsorts(*arguments, "--state-dir", str(self.folder / name))
        return Child(name, command, log=self.folder / f"{name}.log", environment=self._environment)

    def stop(self, more: tuple[Child, ...] = ()) -> None:
        """All that were kept, and ``more``."""
        stop_all([*self.children, *more], self._stop_within_s)

    def workers(self) -> list[dict[str, Any]]:
        """As the router sees them; empty while it does not answer."""
        found: list[dict[str, Any]] = (self.get("/admin/fleet") or {}).get("workers", [])
        return found

    def get(self, path: str) -> Any:
        """JSON, or None while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as reply:
                return json.loads(reply.read() or b"{}")
        except (OSError, ValueError):
            return None

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Raises RuntimeError when a process ended, TimeoutError when it was not reached in time."""
        deadline = time.monotonic() + self._ready_within_s
        while not reached():
            ended = next((child for child in self.children if not child.alive), None)
            if ended is not None:
                raise RuntimeError(f"{self._name}: {ended.name} ended:\n{ended.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name}: not after {self._ready_within_s:.0f} s: {what}")
            time.sleep(LOOK_EVERY_S)
