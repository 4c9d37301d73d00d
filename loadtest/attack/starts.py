"""Starts that cannot succeed: a disk that is full, a state directory nobody may write, a Redis that is away.

Each must end by itself, say in one line what is wrong, and leave nothing that listens.
"""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.attack.footprint import Footprint
from loadtest.attack.rows import Row
from loadtest.chaos.pool import small_disk, unmount
from loadtest.chaos.routers import RouterProcess, Serving
from loadtest.chaos.waiting import NotReached, until
from loadtest.pools.ports import free_port

ENDS_WITHIN_S = 60.0
DISK_BYTES = 64 * 1024
MOST_LINES = 3

FULL, READ_ONLY, NO_REDIS = "a disk that is full at the start", "a read-only state directory", "a Redis that is away"
STARTS = (FULL, READ_ONLY, NO_REDIS)


@contextmanager
def _state(name: str, folder: Path) -> Iterator[str | None]:
    """What the router is told of its state; None: this machine does not let it be tried."""
    place = folder / "state"
    if name == NO_REDIS:
        yield f"redis://127.0.0.1:{free_port()}/0"
    elif name == FULL:
        if not small_disk(place, DISK_BYTES):
            yield None
            return
        try:
            with (place / "full").open("wb") as file:
                _fill(file.fileno())
            yield str(place / "router")
        finally:
            unmount(place)
    else:
        place.mkdir(mode=0o700)
        yield str(Path("/proc/self/router"))  # even root writes nothing there


def _fill(descriptor: int) -> None:
    try:
        while os.write(descriptor, bytes(1024)):
            pass
    except OSError:
        return


async def try_start(name: str, folder: Path, serving: Serving) -> Row | None:
    """As a row: complaints where it did not fail as it must. None where it cannot be tried here."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place, _state(name, Path(place)) as state:
        if state is None:
            return None
        port, grpc_port, log = free_port(), free_port(), Path(place) / "router.log"
        command = [
            sys.executable, "-m", "router.cli.main", "serve", "--port", str(port), "--grpc-port", str(grpc_port),
            "--state-dir", state,
        ]  # fmt: skip
        began = time.monotonic()
        router = RouterProcess(serving, command, log=log, environment={})
        footprint = Footprint(router.child.pid, below=False)
        complaints: list[str] = []
        try:
            async with footprint:
                await until(_ended(router), ENDS_WITHIN_S, "it has ended")
        except NotReached as error:
            complaints.append(str(error))
        finally:
            router.child.ask_to_stop()
            await asyncio.to_thread(router.child.wait, 20.0)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return _row(
            name, serving, complaints + complaints_of(said, _listening(port, grpc_port)), footprint, said, began
        )


def _ended(router: RouterProcess) -> Callable[[], Awaitable[bool]]:
    async def ended() -> bool:
        return not router.child.alive

    return ended


def complaints_of(said: list[str], listening: list[int]) -> list[str]:
    """What is wrong with how it ended."""
    found = [f"port {port} listens" for port in listening]
    if any("Traceback" in line for line in said):
        found.append("a traceback")
    if not said:
        found.append("it said nothing")
    elif len(said) > MOST_LINES:
        found.append(f"{len(said)} lines: {said[0][:100]}")
    return found


def _listening(*ports: int) -> list[int]:
    found = []
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


def _row(
    name: str, serving: Serving, complaints: list[str], footprint: Footprint, said: list[str], began: float
) -> Row:
    return Row(
        attack=name, router=serving.value, serves=False, streams_completed=0, streams_lost=0, probe_p99_ms=0.0,
        machine_p99_ms=0.0, probe_p99_idle_ms=0.0, probes_failed=0, memory_mb_idle=0.0,
        memory_mb_over_idle=footprint.most.memory_mb, memory_mb_over_idle_after=0.0, descriptors_idle=0,
        descriptors_most=footprint.most.descriptors, descriptors_after=0, given_back_s=time.monotonic() - began,
        log_kb=sum(map(len, said)) / 1024, loop_stalls=0, loop_stalled_s=0.0, culprits=(),
        complaints=tuple(complaints), errors=tuple(said[-1:]),
    )  # fmt: skip
