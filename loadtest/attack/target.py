"""What an attack knows of the router it is sent against: where it listens, and for how long to go on."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec


class Pool(StrEnum):
    """What is attacked."""

    OPEN = "open"  # everything on plain loopback
    GUARDED = "guarded"  # workers join over TLS, clients have keys
    STORED = "stored"  # the same, with its state in a Redis


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Passed to the attacker's process as JSON."""

    attack: str
    port: int
    grpc_port: int
    seconds: float
    model: str
    key: str = ""  # of the operator, on a guarded pool
    enrol_port: int = 0  # there
    redis_url: str = ""  # where the router's state is in one


Run = Callable[[Target], Coroutine[Any, Any, dict[str, float]]]
"""Attacks until the time is up; returns what it saw, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One kind of attack. ``quick``: one of those that CI runs."""

    name: str
    run: Run
    quick: bool = False
    pool: Pool = Pool.OPEN
    seconds: float = 15.0
    log_kb: float = 4096.0  # that it may make the router write
    after: Callable[[dict[str, float]], list[str]] = lambda _: []
    """What the attacker must not have seen: complaints, by its own figures."""
