"""Workloads: what a load test sends. Pure; the same seed gives the same sessions in every process."""

import heapq
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from loadtest.locust.workloads.agents import agent_like
from loadtest.locust.workloads.chat import azure_like, code_like
from loadtest.locust.workloads.extraction import json_extraction
from loadtest.locust.workloads.sessions import Session, Sessions, Sizes

MIX: Mapping[str, float] = {"azure-like": 0.5, "code-like": 0.2, "agent-like": 0.2, "json-extraction": 0.1}
"""Share of the requests of each kind."""


def mix(rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """All kinds at once, each with its own arrivals."""
    streams = [
        _slower(WORKLOADS[name](random.Random(rng.getrandbits(64)), sizes), share) for name, share in MIX.items()
    ]
    for number, session in enumerate(heapq.merge(*streams, key=lambda one: one.at)):
        yield replace(session, number=number)


def _slower(sessions: Iterator[Session], share: float) -> Iterator[Session]:
    return (replace(one, at=one.at / share) for one in sessions)


WORKLOADS: dict[str, Sessions] = {
    "azure-like": azure_like,
    "code-like": code_like,
    "agent-like": agent_like,
    "json-extraction": json_extraction,
    "mix": mix,
}
