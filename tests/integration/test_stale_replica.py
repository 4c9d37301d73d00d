"""Two router replicas that share no memory, and two workers, as processes: what one replica cannot know."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.one_pool import STARTS_WITHIN_S, OnePool, end
from tests.support.pool import free_port
from tests.support.until import until

PROFILE = """
machine = "{machine}"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 16384
[behaviour]
noise = 0.0
hidden = 0.0
"""
MACHINES = {"fast": "m4-max-128gb", "slow": "m1-max-64gb"}

CONFIG = """
replicas = 2
state_dir = "{state}"
[grpc]
port = {port}
[fleet]
load_interval_s = 30.0
"""
"""A load report every 30 s: to each replica, what the other does is invisible for the whole test."""

LONG, OTHER_LONG, SHORT = "many words " * 5000, "other words " * 2000, "a few words"
"""Two long ones: what was served once is cached, and waits nowhere. The first stays in prefill throughout its test."""


@dataclass
class Replica:
    """One of the two, as its clients see it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> int:
        with contextlib.suppress(httpx.HTTPError):
            workers = httpx.get(f"{self.url}/admin/fleet", timeout=60).json()["workers"]
            return sum(one["state"] == "ready" for one in workers)
        return 0

    def ask(self, words: str, model: str = "m") -> Any:
        """An answer under way; its headers are there once a worker has accepted."""
        messages = [{"role": "user", "content": words}]
        body = {"model": model, "messages": messages, "max_tokens": 4, "stream": True}
        return httpx.stream("POST", f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def records(self, request_id: str) -> list[dict[str, Any]]:
        return list(httpx.get(f"{self.url}/admin/explain/{request_id}", timeout=60).json()["records"])

    def conflicts(self) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("allsorts_conflicts_total"))


@pytest.fixture
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    """Both ready, with a fast and a slow worker each, of whose speeds they have learned nothing yet."""
    folder = tmp_path_factory.mktemp("stale")
    pool = OnePool(folder, grpc_port=_two_free_ports())
    (folder / "config.toml").write_text(CONFIG.format(state=folder / "state", port=pool.grpc_port))
    found = (Replica(free_port()), Replica(free_port()))
    with contextlib.ExitStack() as stack:
        for rank, replica in enumerate(found):
            stack.enter_context(_routing(folder, rank, replica.port))
            until(partial(_answers, replica), "the router answers", within_s=STARTS_WITHIN_S)
        for node, machine in MACHINES.items():
            profile = folder / f"{node}.toml"
            profile.write_text(PROFILE.format(machine=machine))
            stack.enter_context(pool.working(node, "--engine", "simulated", "--model", f"m={profile}"))
        until(
            lambda: all(one.ready() == 2 for one in found), "both replicas have both workers", within_s=STARTS_WITHIN_S
        )
        yield found


def test_a_pinned_request_goes_where_it_must_whatever_waits_there(replicas: tuple[Replica, Replica]) -> None:
    """It carries no condition: a conflict could not send it anywhere better."""
    first, second = replicas
    with first.ask(OTHER_LONG) as long, second.ask(SHORT, "m@q8_0") as short:
        short.read()
        assert short.status_code == 200
        records = second.records(short.headers["x-request-id"])
        assert len(records) == 1
        assert short.headers["x-allsorts-worker"] == long.headers["x-allsorts-worker"] == "fast"
        long.read()


def test_a_stale_replicas_choice_is_refused_by_the_worker_and_made_again(replicas: tuple[Replica, Replica]) -> None:
    """The other replica filled the fast worker. This one cannot know, chooses it, is told, and takes the slow one at
    once: one conflict in its metrics, both decisions in the record, nobody set aside.
    """
    first, second = replicas
    with first.ask(LONG) as long:
        assert long.headers.get("x-allsorts-worker") == "fast", long.read()
        with second.ask(SHORT) as short:
            assert short.headers.get("x-allsorts-worker") == "slow", short.read()
            request_id = short.headers["x-request-id"]
            short.read()
            assert short.status_code == 200
        assert '"content"' in short.text
        chosen, again = second.records(request_id)
        assert chosen["outcome"]["ending"] == "conflict"
        assert 0 < chosen["max_queued_prefill_tokens"] < 4000
        assert (chosen["attempt"], again["attempt"]) == (0, 1)
        pending = {one["node"]: one["values"]["prefill_pending"] for one in again["candidates"]}
        assert pending["fast"] > chosen["max_queued_prefill_tokens"], "the refusal's load is what the second choice saw"
        assert again["outcome"]["ending"] in ("stop", "length")
        assert not any(one["filter"] == "suspended" for one in again["exclusions"])
        assert second.conflicts() == 1
        assert first.conflicts() == 0


def test_a_cordon_at_one_replica_holds_at_the_other(replicas: tuple[Replica, Replica]) -> None:
    """Which hears of it through the store; so does its end."""
    first, second = replicas

    def cordoned() -> bool:
        workers = httpx.get(f"{second.url}/admin/fleet", timeout=60).json()["workers"]
        return next(bool(one["cordoned"]) for one in workers if one["node"] == "slow")

    for verb, holds in (("cordon", True), ("undrain", False)):
        assert httpx.post(f"{first.url}/admin/{verb}", json={"node": "slow"}, timeout=60).status_code == 200
        until(lambda holds=holds: cordoned() is holds, f"the other replica hears of the {verb}")


def _answers(replica: Replica) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{replica.url}/admin/fleet", timeout=60).status_code == 200
    return False


@contextlib.contextmanager
def _routing(folder: Path, rank: int, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.support.ranked_router", str(folder / "config.toml"), str(rank), str(port)]
    with (folder / f"router-{rank}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            assert end(process, signal.SIGTERM) in (0, -signal.SIGTERM), (folder / f"router-{rank}.log").read_text()


def _two_free_ports() -> int:
    """The replicas' session ports follow from their ranks."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError), socket.socket() as next_one:
            next_one.bind(("127.0.0.1", port + 1))
            return port
