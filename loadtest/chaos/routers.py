"""The router that chaos breaks, as its user starts it: under Ray Serve behind HAProxy, or under plain uvicorn."""

import asyncio
import signal
import time
from enum import StrEnum
from pathlib import Path

import psutil

from router.cli.support.processes import Child

DIES_WITHIN_S = 10.0
REPLICA = "ray::ServeReplica"
"""Ray gives its processes titles; a router replica's begins so."""


class Serving(StrEnum):
    """What the router runs under."""

    SERVE = "serve"
    UVICORN = "uvicorn"


class RouterProcess:
    """One ``allsorts serve`` and all that comes of it."""

    def __init__(self, serving: Serving, command: list[str], *, log: Path, environment: dict[str, str]) -> None:
        self._command = command if serving is Serving.SERVE else [*command, "--without-ray"]
        self._log = log
        self._environment = environment
        self.serving = serving
        self.child = self._start()

    @property
    def door_stays_open(self) -> bool:
        """Whether a request that comes while nothing routes waits for the next router, and must be answered."""
        return self.serving is Serving.SERVE

    async def crash(self) -> float:
        """SIGKILL what routes, and see to a next one as its operator would. Returns when it was killed (monotonic).

        Under Ray Serve that is the router replica: Serve starts the next by itself. Under uvicorn it is the command,
        which systemd or its like would start again.
        """
        if self.serving is Serving.UVICORN:
            killed_at = time.monotonic()
            self.child.send(signal.SIGKILL)
            await asyncio.to_thread(self.child.wait, DIES_WITHIN_S)
            self.child = self._start()
            return killed_at
        replicas = self._replicas()
        if not replicas:
            raise RuntimeError(f"no {REPLICA} among the router's processes")
        killed_at = time.monotonic()
        for replica in replicas:
            replica.kill()
        await asyncio.to_thread(psutil.wait_procs, replicas, DIES_WITHIN_S)
        return killed_at

    def _start(self) -> Child:
        return Child("router", self._command, log=self._log, environment=self._environment)

    def _replicas(self) -> list[psutil.Process]:
        family = psutil.Process(self.child.pid).children(recursive=True)
        return [one for one in family if _title(one).startswith(REPLICA)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""
