"""Reads a simulated machine's profile: TOML, by path or by the name of one that ships.

machine = "h100-sxm"              # a profile that ships, to start from; or all of [hardware] below
[hardware]                        # name, memory_gib, usable_gib, bandwidth_gb_s, efficiency, step_base_ms,
                                  # prefill_tflops, decode_tflops, chunk_tokens, slots, load_gb_s, engine
[hardware.compute_share]          # awq = 0.7: share of the 16-bit matrix rate that a format keeps
[model]                           # shape = "llama-3.1-8b", or parameters, layers, kv_heads, head_dim, hidden;
                                  # quantization, context_tokens, slots
[speed]                           # measured figures in place of derived ones: base_s, per_sequence_s,
                                  # per_context_token_s, prefill_tokens_per_s, prefill_base_s, prefill_attention,
                                  # kv_capacity_tokens, chunk_tokens, prefill_chunk_tokens, sequence_chunk_tokens,
                                  # decode_curve_s (a list: 1, 2, … sequences),
                                  # prefill_curve_tokens and prefill_curve_s (two lists)
[draft]                           # a draft model proposes: acceptance, base_ms, per_sequence_ms, rtt_ms, overlap_ms
[behaviour]                       # noise, drift, drift_s, hidden, wrong_by, seed, answer_mu, answer_sigma, salt
"""

import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from protos.contract.models.model_shape import ModelShape
from workers.engines.simulated.parameters import (
    GIB,
    EngineParameters,
    Machine,
    combine,
    hidden,
    times,
    weights_bytes,
)
from workers.speculation.rounds import Drafting


def _shape_of(*, parameters: float, layers: float, kv_heads: float, head_dim: float, hidden: float) -> ModelShape:
    return ModelShape(
        name="", stated_parameters=round(parameters), layers=int(layers), kv_heads=int(kv_heads),
        head_dim_k=int(head_dim), head_dim_v=int(head_dim), hidden=int(hidden),
        heads=0, feed_forward=0, vocabulary=0, context_tokens=0,
    )  # fmt: skip


SHAPES = {
    "llama-3.1-8b": _shape_of(parameters=8.03e9, layers=32, kv_heads=8, head_dim=128, hidden=4096),
    "llama-3.3-70b": _shape_of(parameters=70.6e9, layers=80, kv_heads=8, head_dim=128, hidden=8192),
    "llama-3.2-1b": _shape_of(parameters=1.24e9, layers=16, kv_heads=8, head_dim=64, hidden=2048),
    "qwen3-8b": _shape_of(parameters=8.19e9, layers=36, kv_heads=8, head_dim=128, hidden=4096),
    "smollm2-135m": _shape_of(parameters=135e6, layers=30, kv_heads=3, head_dim=64, hidden=576),
}
"""From each model's config.json."""

DEFAULT_SHAPE = "llama-3.1-8b"
DEFAULT_CONTEXT_TOKENS = 8192

_HARDWARE: dict[str, tuple[str, float]] = {
    "memory_gib": ("memory_bytes", GIB),
    "usable_gib": ("usable_bytes", GIB),
    "bandwidth_gb_s": ("bandwidth_bytes_per_s", 1e9),
    "efficiency": ("efficiency", 1.0),
    "step_base_ms": ("step_base_s", 1e-3),
    "prefill_tflops": ("prefill_flops", 1e12),
    "decode_tflops": ("decode_flops", 1e12),
    "load_gb_s": ("load_bytes_per_s", 1e9),
}
_HARDWARE_COUNTS = ("chunk_tokens", "slots")
_HARDWARE_REST = ("name", "engine", "compute_share")
_SHAPE = ("parameters", "layers", "kv_heads", "head_dim", "hidden")
_MODEL = ("shape", "quantization", "context_tokens", "slots", *_SHAPE)
_SPEED = (
    "base_s",
    "per_sequence_s",
    "per_context_token_s",
    "prefill_tokens_per_s",
    "prefill_base_s",
    "prefill_attention",
)
_COUNTS = ("kv_capacity_tokens", "chunk_tokens", "prefill_chunk_tokens", "sequence_chunk_tokens")
_CURVE = ("prefill_curve_tokens", "prefill_curve_s")
_DRAFT = {"base_ms": "base_s", "per_sequence_ms": "per_sequence_s", "rtt_ms": "rtt_s", "overlap_ms": "overlap_s"}
_BEHAVIOUR = ("noise", "drift", "drift_s", "hidden", "wrong_by", "seed", "answer_mu", "answer_sigma", "salt", "load_s")


class ProfileError(ValueError):
    """A profile that cannot be used; the message is one line naming the file and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the engine strays from its profile. ``wrong_by`` 2: it is really twice as slow as it says."""

    noise: float = 0.03
    drift: float = 0.0
    drift_s: float = 5.0
    hidden: float = 0.2
    wrong_by: float = 1.0
    seed: int = 0
    answer_mu: float = 5.02  # FACTS.md, generated tokens of the Azure conversation trace
    answer_sigma: float = 0.86
    salt: str = ""  # answers differ from those of workers with another
    load_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedProfile:
    """One machine with one model at one quantization: what it declares and what it really is."""

    machine: Machine
    shape: ModelShape
    shape_name: str
    quantization: str
    declared: EngineParameters
    true: EngineParameters
    weights_bytes: float
    behaviour: Behaviour


def shipped_profiles() -> list[str]:
    """Names of the machines that ship."""
    folder = resources.files("workers.engines.simulated") / "profiles"
    return sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml"))


def read_profile(
    path: str,
    *,
    quantization: str = "",
    shape: str = "",
    context_tokens: int = 0,
    slots: int = 0,
    seed: int | None = None,
) -> SimulatedProfile:
    """A profile by path or shipped name; the keywords overrule what the file says. Raises ProfileError."""
    values, source = _load(path)
    return profile_from(
        values, source, quantization=quantization, shape=shape, context_tokens=context_tokens, slots=slots, seed=seed
    )


def profile_from(
    values: Mapping[str, Any],
    source: str,
    *,
    quantization: str = "",
    shape: str = "",
    context_tokens: int = 0,
    slots: int = 0,
    seed: int | None = None,
) -> SimulatedProfile:
    """As ``read_profile``, from values already read; ``source`` names them in errors."""
    tables = _Tables(values, source)
    machine = _machine(tables)
    model = tables.table("model", _MODEL)
    shape_name, model_shape = _shape(tables, model, shape)
    quantization = quantization or str(model.get("quantization", "fp16"))
    behaviour = _behaviour(tables, seed)
    try:
        weights = weights_bytes(model_shape, quantization)
        declared = combine(
            machine,
            model_shape,
            quantization,
            context_tokens=context_tokens
            or int(tables.number(model, "model", "context_tokens", DEFAULT_CONTEXT_TOKENS)),
            slots=slots or int(tables.number(model, "model", "slots", 0)),
        )
    except ValueError as error:
        raise ProfileError(f"{source}: {error}") from None
    declared = _measured(
        tables, replace(declared, noise=behaviour.noise, drift=behaviour.drift, drift_s=behaviour.drift_s)
    )
    if behaviour.load_s is not None:
        declared = replace(declared, load_s=behaviour.load_s)
    declared = replace(declared, drafting=_drafting(tables))
    rng = random.Random(behaviour.seed)
    return SimulatedProfile(
        machine=machine,
        shape=model_shape,
        shape_name=shape_name,
        quantization=quantization,
        declared=declared,
        true=times(hidden(declared, behaviour.hidden, rng), behaviour.wrong_by),
        weights_bytes=weights,
        behaviour=behaviour,
    )


def _load(path: str) -> tuple[dict[str, Any], str]:
    place = Path(path)
    try:
        if place.suffix == "" and path in shipped_profiles():
            text = (resources.files("workers.engines.simulated") / "profiles" / f"{path}.toml").read_text("utf-8")
        else:
            text = place.read_text(encoding="utf-8")
        return tomllib.loads(text), path
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise ProfileError(
            f"{path}: no simulated profile there ({why}); give a TOML file or one of {', '.join(shipped_profiles())}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: {error}") from None


class _Tables:
    """Tables and numbers of a profile, checked."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source
        self._known("", values, ("machine", "hardware", "model", "speed", "draft", "behaviour"))

    def table(self, name: str, fields: tuple[str, ...]) -> Mapping[str, Any]:
        """A table with known fields only; empty when it is not there."""
        table = self.values.get(name, {})
        if not isinstance(table, dict):
            raise ProfileError(f"{self.source}: {name} must be a table")
        self._known(f"{name}.", table, fields)
        return table

    def number(self, table: Mapping[str, Any], where: str, field: str, default: float) -> float:
        """A number, never negative."""
        value = table.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ProfileError(f"{self.source}: {where}.{field} must be a number that is not negative, not {value!r}")
        return float(value)

    def numbers(self, table: Mapping[str, Any], where: str, field: str) -> tuple[float, ...]:
        """A list of numbers above zero."""
        values = table[field]
        good = isinstance(values, list) and all(isinstance(one, int | float) and one > 0 for one in values)
        if not good:
            raise ProfileError(f"{self.source}: {where}.{field} must be a list of numbers above zero")
        return tuple(float(one) for one in values)

    def _known(self, prefix: str, table: Mapping[str, Any], fields: tuple[str, ...]) -> None:
        for field in table:
            if field not in fields:
                raise ProfileError(f"{self.source}: unknown field {prefix}{field}; known are {', '.join(fields)}")


def _machine(tables: _Tables) -> Machine:
    base = tables.values.get("machine")
    own = tables.table("hardware", (*_HARDWARE, *_HARDWARE_COUNTS, *_HARDWARE_REST))
    if base is not None:
        if base not in shipped_profiles():
            raise ProfileError(
                f"{tables.source}: machine {base!r} does not ship; choose {', '.join(shipped_profiles())}"
            )
        shipped, _ = _load(base)
        own = {**shipped["hardware"], **own}
    for field in ("name", *_HARDWARE):
        if field not in own and field != "load_gb_s":
            raise ProfileError(f"{tables.source}: hardware.{field} is missing")
    figures: dict[str, Any] = {
        target: tables.number(own, "hardware", field, 0.0) * unit
        for field, (target, unit) in _HARDWARE.items()
        if field in own
    }
    for field, (target, _) in _HARDWARE.items():
        if figures.get(target) == 0.0 and field != "step_base_ms":
            raise ProfileError(f"{tables.source}: hardware.{field} must be above zero")
    counts: dict[str, Any] = {
        field: int(tables.number(own, "hardware", field, 0)) for field in _HARDWARE_COUNTS if field in own
    }
    return Machine(
        name=str(own["name"]),
        engine=str(own.get("engine", "llama.cpp")),
        compute_share=dict(own.get("compute_share", {})),
        **figures,
        **counts,
    )


def _shape(tables: _Tables, model: Mapping[str, Any], wanted: str) -> tuple[str, ModelShape]:
    if wanted == "" and any(field in model for field in _SHAPE):
        missing = [field for field in _SHAPE if field not in model]
        if missing:
            raise ProfileError(f"{tables.source}: model.{missing[0]} is missing")
        figures = {field: tables.number(model, "model", field, 0.0) for field in _SHAPE}
        return str(model.get("shape", "custom")), _shape_of(**figures)
    name = wanted or str(model.get("shape", DEFAULT_SHAPE))
    if name not in SHAPES:
        raise ProfileError(f"{tables.source}: model.shape {name!r} is not known; choose {', '.join(SHAPES)}")
    return name, SHAPES[name]


def _behaviour(tables: _Tables, seed: int | None) -> Behaviour:
    table = tables.table("behaviour", _BEHAVIOUR)
    values: dict[str, Any] = {
        field: tables.number(table, "behaviour", field, 0.0)
        for field in _BEHAVIOUR
        if field in table and field != "salt"
    }
    if "seed" in values or seed is not None:
        values["seed"] = int(values.get("seed", 0) if seed is None else seed)
    if "salt" in table:
        values["salt"] = str(table["salt"])
    behaviour = Behaviour(**values)
    if behaviour.hidden >= 1.0 or behaviour.wrong_by <= 0.0 or behaviour.drift_s <= 0.0:
        raise ProfileError(
            f"{tables.source}: behaviour.hidden is below 1, behaviour.wrong_by and behaviour.drift_s above 0"
        )
    return behaviour


def _drafting(tables: _Tables) -> Drafting | None:
    table = tables.table("draft", ("acceptance", *_DRAFT))
    if not table:
        return None
    for field in ("acceptance", "base_ms"):
        if field not in table:
            raise ProfileError(f"{tables.source}: draft.{field} is missing")
    acceptance = tables.number(table, "draft", "acceptance", 0.0)
    if acceptance > 1.0:
        raise ProfileError(f"{tables.source}: draft.acceptance must lie between 0 and 1, not {acceptance:g}")
    seconds: dict[str, Any] = {
        target: tables.number(table, "draft", field, 0.0) / 1e3 for field, target in _DRAFT.items()
    }
    return Drafting(acceptance=acceptance, **seconds)


def _prefill_curve(tables: _Tables, speed: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """Two lists of one length, the first rising."""
    missing = next((field for field in _CURVE if field not in speed), None)
    if missing is not None:
        raise ProfileError(f"{tables.source}: speed.{missing} is missing")
    tokens, seconds = (tables.numbers(speed, "speed", field) for field in _CURVE)
    rises = all(one < other for one, other in pairwise(tokens))
    if len(tokens) != len(seconds) or not rises:
        raise ProfileError(f"{tables.source}: speed.{_CURVE[0]} must rise and be as long as speed.{_CURVE[1]}")
    return tuple(zip(tokens, seconds, strict=True))


def _measured(tables: _Tables, derived: EngineParameters) -> EngineParameters:
    """Measured speeds take the place of derived ones."""
    speed = tables.table("speed", (*_SPEED, *_COUNTS, "decode_curve_s", *_CURVE))
    changes: dict[str, Any] = {
        field: tables.number(speed, "speed", field, 0.0)
        for field in _SPEED
        if field in speed and field != "prefill_tokens_per_s"
    }
    if "prefill_tokens_per_s" in speed:
        rate = tables.number(speed, "speed", "prefill_tokens_per_s", 0.0)
        if rate == 0.0:
            raise ProfileError(f"{tables.source}: speed.prefill_tokens_per_s must be above zero")
        changes["prefill_token_s"] = 1.0 / rate
    if "decode_curve_s" in speed:
        changes["decode_curve_s"] = tables.numbers(speed, "speed", "decode_curve_s")
    if any(field in speed for field in _CURVE):
        changes["prefill_curve"] = _prefill_curve(tables, speed)
    for field in _COUNTS:
        if field in speed:
            changes[field] = int(tables.number(speed, "speed", field, 0.0))
    result = replace(derived, **changes)
    return replace(result, context_tokens=min(result.context_tokens, result.kv_capacity_tokens))
