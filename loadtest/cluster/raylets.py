"""Ray nodes as processes of this machine, each with a loopback address of its own: what a cluster is, without machines.

``ray start --block`` for each, in a process group of its own, ended by that. Ports are the same on every node, as they
would be on machines; only the address differs. Nothing listens beyond loopback.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from router.ray.settings import free_port

STORE_BYTES = 80_000_000
"""The smallest that Ray takes; nothing here moves through it."""

STARTS_WITHIN_S = 90.0
ENDS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A machine to be: what Ray is told of it."""

    name: str
    cpus: int = 2
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Raylet:
    """One node that runs: the ``ray start`` that watches over it, and its address."""

    spec: NodeSpec
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether ``ray start`` still watches."""
        return self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Everything of this node: its group's processes and their descendants."""
        found: dict[int, psutil.Process] = {}
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(one.pid) == self.process.pid:
                    found[one.pid] = one
        for one in list(found.values()):
            with contextlib.suppress(psutil.Error):
                found |= {child.pid: child for child in one.children(recursive=True)}
        return list(found.values())

    def kill(self) -> None:
        """All at once, as when a machine loses power."""
        family = self.family()
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(family, timeout=ENDS_WITHIN_S)
        self.process.wait(timeout=ENDS_WITHIN_S)

    def stop(self) -> None:
        """SIGTERM, and the rest killed: nothing is left."""
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=ENDS_WITHIN_S)
        for one in {*family, *self.family()}:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(family, timeout=ENDS_WITHIN_S)


class LoopbackCluster:
    """A head and nodes. ``first``: the last number of the head's 127.0.0.x; ``environment``: of every node."""

    def __init__(
        self, folder: Path, specs: tuple[NodeSpec, ...], *, environment: Mapping[str, str], network: int = 0
    ) -> None:
        self._folder = folder
        self._specs = specs
        self._environment = dict(environment)
        self._network = network or 1 + os.getpid() % 250
        self._port = free_port()
        self.nodes: dict[str, Raylet] = {}

    @property
    def address(self) -> str:
        """Where ``ray.init`` and ``allsorts serve --address`` find it."""
        return f"{self.address_of(0)}:{self._port}"

    def address_of(self, number: int) -> str:
        """Of the node of this number; the head is number 0."""
        return f"127.0.{self._network}.{number + 1}"

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._specs)):
                self.start(number)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, number: int) -> Raylet:
        """One node, until it says that it runs. Raises RuntimeError with the end of its log."""
        spec, address = self._specs[number], self.address_of(number)
        log = self._folder / f"ray-{spec.name}.log"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", address]
        command += ["--num-cpus", str(spec.cpus), "--num-gpus", str(spec.gpus)]
        command += ["--object-store-memory", str(STORE_BYTES), "--disable-usage-stats", "--include-log-monitor=false"]
        command += ["--labels", ",".join(f"{key}={value}" for key, value in spec.labels.items())] if spec.labels else []
        if number == 0:
            temporary = self._folder / "ray"
            command += ["--head", "--port", str(self._port), "--include-dashboard=false", "--temp-dir", str(temporary)]
        else:
            command += ["--address", self.address]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self._environment, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        raylet = self.nodes[spec.name] = Raylet(spec, address, process, log)
        until = time.monotonic() + STARTS_WITHIN_S
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if not raylet.alive or time.monotonic() > until:
                raise RuntimeError(f"{spec.name} did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.1)
        return raylet

    def drain(self, name: str, within_s: float) -> None:
        """Tell Ray that this node goes in so many seconds, as an autoscaler does. Raises RuntimeError: it refuses.

        Whoever drains a node ends it; Ray does not.
        """
        from ray.core.generated import autoscaler_pb2

        inner: Any = importlib.import_module("ray._raylet")  # compiled: nothing is told of its types
        head = inner.GcsClient(address=self.address)
        address = self.nodes[name].address
        infos = head.get_all_node_info(timeout=ENDS_WITHIN_S)
        (node_id,) = (one for one, info in infos.items() if info.node_manager_address == address and not info.state)
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        until_ms = int((time.time() + within_s) * 1000)
        accepted, why_not = head.drain_node(node_id.hex(), reason, "this machine goes", until_ms)
        if not accepted:
            raise RuntimeError(f"Ray does not drain {name}: {why_not}")

    def stop(self) -> None:
        """Last started first."""
        for node in reversed(self.nodes.values()):
            node.stop()


def described(nodes: list[dict[str, Any]]) -> str:
    """Ray's own list of nodes, short: for the log of a run."""
    return json.dumps([{"address": one["NodeManagerAddress"], "alive": one["Alive"]} for one in nodes])
