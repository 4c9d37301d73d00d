"""A network of its own for a joining machine: one link to the head and no other route, as on a real second machine.

Needs root and ``ip netns``; without them the machine joins over loopback.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

COMMAND_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Network:
    """``head_host``: where the head listens; ``within``: what a command is put behind to run in that network."""

    head_host: str = "127.0.0.1"
    within: tuple[str, ...] = ()


@contextlib.contextmanager
def network_of_its_own() -> Iterator[Network]:
    """A namespace where that is possible, else loopback."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield Network()
        return
    number = os.getpid() % 16000
    name, third, fourth = f"asj{number}", number // 64, number % 64 * 4
    head, machine = (f"10.232.{third}.{fourth + one}" for one in (1, 2))
    try:
        _ip("netns", "add", name)
    except subprocess.SubprocessError:  # not allowed here
        yield Network()
        return
    try:
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}n")
        _ip("link", "set", f"{name}n", "netns", name)
        _ip("addr", "add", f"{head}/30", "dev", f"{name}h")
        _ip("link", "set", f"{name}h", "up")
        _ip("-n", name, "addr", "add", f"{machine}/30", "dev", f"{name}n")
        _ip("-n", name, "link", "set", f"{name}n", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Network(head, ("ip", "netns", "exec", name))
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=COMMAND_DEADLINE_S)
