"""What a model takes on a worker, and what the worker has, by ``router.capacity``."""

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter

from protos.contract.models.kv_cache import kv_cache_bytes
from protos.contract.models.quantization import BY_NAME, canonical
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.engines import ENGINES
from router.capacity.fit import Plan, memory
from router.capacity.machines import machine_of
from router.capacity.recommendations import shape_of

KEPT = 16_384
"""Answers remembered: models at their quantizations, times kinds of machines."""

_Value = tuple[object, ...]


def usable_bytes(hardware: Hardware, engine: str, limit_bytes: int) -> float:
    """That all models of one worker may take together. Infinite where neither hardware nor owner says."""
    return min(_usable_bytes(_Machine(hardware), engine) or math.inf, float(limit_bytes) or math.inf)


def needs_bytes(
    facts: Sequence[ModelInstance],
    quantization: str,
    *,
    context_tokens: int,
    slots: int,
    hardware: Hardware,
    engine: str,
) -> float:
    """Of one model with so many sequences of such a context. ``facts``: what is known of it, the nearest first.

    Infinite where too little is known: then it fits only where nothing is counted.
    """
    return _needs_bytes(_Facts(facts), canonical(quantization), context_tokens, slots, _Machine(hardware), engine)


class _Key:
    """Equal by value: what is asked again and again is reckoned once."""

    __slots__ = ("_hash", "value")

    def __init__(self, value: _Value) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.value == other.value


class _Machine(_Key):
    __slots__ = ("hardware",)

    def __init__(self, hardware: Hardware) -> None:
        one = hardware
        details = tuple(sorted(one.details.items()))
        super().__init__((one.kind, one.name, one.count, one.memory_bytes, one.usable_memory_bytes, one.cores, details))
        self.hardware = hardware


_SHAPE = attrgetter(
    "model", "quantization", "weights_bytes", "parameters", "layers", "kv_heads", "head_dim_k", "head_dim_v",
    "context_tokens",
)  # fmt: skip
"""What ``shape_of`` looks at."""


class _Facts(_Key):
    __slots__ = ("facts",)

    def __init__(self, facts: Sequence[ModelInstance]) -> None:
        super().__init__(tuple(map(_SHAPE, facts)))
        self.facts = tuple(facts)


@lru_cache(maxsize=1024)
def _usable_bytes(machine: _Machine, engine: str) -> float:
    runs, there = ENGINES.get(engine), machine_of(machine.hardware)
    return runs.usable_bytes(there) if runs is not None else float(there.hardware.usable_memory_bytes)


@lru_cache(maxsize=KEPT)
def _needs_bytes(
    facts: _Facts, quantization: str, context_tokens: int, slots: int, machine: _Machine, engine: str
) -> float:
    shape, fmt = shape_of(facts.facts), BY_NAME.get(quantization)
    if shape is None or fmt is None:
        return math.inf
    runs = ENGINES.get(engine)
    plan = Plan(context_tokens=min(context_tokens, shape.context_tokens or context_tokens), batch=slots)
    if runs is None:
        stored = float(shape.weights_bytes) or shape.parameters * fmt.bits_per_weight / 8
        return stored + kv_cache_bytes(shape, plan.context_tokens, sequences=slots)
    return memory(shape, fmt, plan, runs, machine_of(machine.hardware)).needed_bytes
