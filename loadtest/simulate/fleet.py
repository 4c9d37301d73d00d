"""Fleet files: which machines, which model at which quantization on each, and which models are asked for.

[fleet]
name = "home_lab"
[[worker]]
node = "m4-max"                # one name, or a prefix when count is above 1
profile = "m4-max-128gb"       # a machine that ships with the simulated engine, or a profile's path
model = "llama-3.1-8b"         # a shape of the simulated engine
quantization = "q8_0"
count = 1                      # optional, as are context_tokens, slots, rtt_ms
[[demand]]
model = "llama-3.1-8b"
share = 0.9
floor = "q8_0"                 # optional: the quality floor of these requests
[[draft]]                      # optional: a machine whose model proposes tokens; ``--draft`` asks whether it pays
node = "m1"
profile = "m1-16gb"
model = "llama-3.2-1b"
quantization = "q4_k_m"
target = "llama-3.3-70b"       # whose workers it drafts for
count = 1                      # optional; so are rtt_ms (between it and a target), acceptance (else by the traffic)
"""

import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadtest.simulate.located import TomlLines, error_at
from protos.contract.ids import WorkerId
from protos.contract.models.kv_cache import kv_bytes_per_token
from protos.contract.models.quantization import canonical, find_format, unknown_format
from protos.contract.worker import Capabilities, Hardware, ModelInstance, Speed
from router.domain.worker import WorkerProfile
from workers.engines.simulated.parameters import EngineParameters, hidden
from workers.engines.simulated.profile import ProfileError, SimulatedProfile, read_profile

_WORKER = ("node", "profile", "model", "quantization", "count", "context_tokens", "slots", "rtt_ms")
_DRAFT = ("node", "profile", "model", "quantization", "target", "count", "rtt_ms", "acceptance")
_DEMAND = ("model", "share", "floor")
MAX_WORKERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One worker: what it declares. What it really is, the simulation draws."""

    node: str
    model: str
    declared: EngineParameters
    profile: WorkerProfile
    instance: ModelInstance
    rtt_s: float
    machine: str = ""  # its profile's name or path

    @property
    def worker_id(self) -> WorkerId:
        """Also the node's name."""
        return self.profile.worker_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A kind of request: model, quality floor, share of all requests."""

    model: str
    share: float
    floor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSpec:
    """``count`` machines whose model proposes tokens to the workers of ``target``; ``acceptance`` 0: by the traffic."""

    node: str
    model: str
    quantization: str
    target: str
    alone: EngineParameters  # of the draft model on its own machine
    weights_bytes: float
    count: int
    rtt_s: float
    acceptance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """A fleet and what is asked of it."""

    name: str
    nodes: tuple[NodeSpec, ...]
    demand: tuple[Demand, ...]
    drafts: tuple[DraftSpec, ...] = ()

    def true_parameters(self, seed: int, spread: float = 0.2) -> tuple[EngineParameters, ...]:
        """What each machine really is, hidden from every policy."""
        return tuple(hidden(node.declared, spread, random.Random(f"{seed}/{node.node}")) for node in self.nodes)


def read_fleet(path: str | Path) -> FleetSpec:
    """A fleet from a file. Raises InputError naming file, line and field."""
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise error_at(source, None, "", f"cannot be read ({getattr(error, 'strerror', None) or 'not text'})") from None
    except tomllib.TOMLDecodeError as error:
        raise error_at(source, None, "", str(error)) from None
    return _Reader(source, TomlLines(text), values).fleet()


class _Reader:
    def __init__(self, source: str, lines: TomlLines, values: Mapping[str, Any]) -> None:
        self.source, self.lines, self.values = source, lines, values

    def fleet(self) -> FleetSpec:
        for table in self.values:
            if table not in ("fleet", "worker", "demand", "draft"):
                raise self._wrong(table, 0, "", f"unknown table [{table}]; known are fleet, worker, demand, draft")
        name = self._name()
        nodes: list[NodeSpec] = []
        for index, entry in enumerate(self._tables("worker")):
            more = self._nodes(index, entry)
            self._unique(index, nodes, more)
            nodes += more
            if len(nodes) > MAX_WORKERS:
                raise self._wrong("worker", index, "count", f"makes more than {MAX_WORKERS} workers")
        models = {node.model for node in nodes}
        demand = tuple(self._demand(index, entry, models) for index, entry in enumerate(self._tables("demand")))
        total = sum(one.share for one in demand)
        drafts = self._tables("draft") if "draft" in self.values else []
        return FleetSpec(
            name=name,
            drafts=tuple(self._draft(index, entry, models) for index, entry in enumerate(drafts)),
            nodes=tuple(nodes),
            demand=tuple(replace(one, share=one.share / total) for one in demand),
        )

    def _name(self) -> str:
        table = self.values.get("fleet", {})
        if not isinstance(table, dict):
            raise self._wrong("fleet", 0, "", "write [fleet], once")
        self._known("fleet", 0, table, ("name",))
        name = table.get("name", "")
        if not isinstance(name, str):
            raise self._wrong("fleet", 0, "name", f"must be a text, not {name!r}")
        return name or Path(self.source).stem

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        tables = self.values.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise self._wrong(name, 0, "", f"write [[{name}]], once for each")
        if not tables:
            raise error_at(self.source, None, f"[[{name}]]", "is missing: at least one is needed")
        return tables

    def _nodes(self, index: int, entry: Mapping[str, Any]) -> list[NodeSpec]:
        self._known("worker", index, entry, _WORKER)
        for field in ("node", "profile", "model", "quantization"):
            if not isinstance(entry.get(field), str) or not entry[field]:
                raise self._wrong("worker", index, field, "is missing, or not a text")
        count = self._whole("worker", index, entry, "count", 1, least=1)
        profile = self._profile("worker", index, entry)
        rtt_s = self._number("worker", index, entry, "rtt_ms", 1.0, least=0) / 1000.0
        if count == 1:
            return [_node(str(entry["node"]), entry, profile, rtt_s)]
        return [_node(f"{entry['node']}-{number}", entry, profile, rtt_s) for number in range(count)]

    def _profile(self, table: str, index: int, entry: Mapping[str, Any]) -> SimulatedProfile:
        try:
            return read_profile(
                entry["profile"],
                quantization=entry["quantization"],
                shape=entry["model"],
                context_tokens=self._whole(table, index, entry, "context_tokens", 16_384, least=512),
                slots=self._whole(table, index, entry, "slots", 0, least=0),
            )
        except ProfileError as error:
            message = str(error).removeprefix(f"{entry['profile']}: ")
            field = "profile"
            for name in ("quantization", "model"):
                if repr(entry[name]) in message or f"({entry[name]})" in message:
                    field = name
            raise self._wrong(table, index, field, f"is no use: {message}") from None

    def _draft(self, index: int, entry: Mapping[str, Any], models: set[str]) -> DraftSpec:
        self._known("draft", index, entry, _DRAFT)
        for field in ("node", "profile", "model", "quantization", "target"):
            if not isinstance(entry.get(field), str) or not entry[field]:
                raise self._wrong("draft", index, field, "is missing, or not a text")
        if entry["target"] not in models:
            raise self._wrong("draft", index, "target", f"{entry['target']!r} is served by no worker of this fleet")
        acceptance = self._number("draft", index, entry, "acceptance", 0.0, least=0)
        if acceptance >= 1.0:
            raise self._wrong("draft", index, "acceptance", f"must be below 1, not {acceptance!r}")
        profile = self._profile("draft", index, entry)
        return DraftSpec(
            node=entry["node"],
            model=entry["model"],
            quantization=profile.quantization,
            target=entry["target"],
            alone=profile.declared,
            weights_bytes=profile.weights_bytes,
            count=self._whole("draft", index, entry, "count", 1, least=1),
            rtt_s=self._number("draft", index, entry, "rtt_ms", 1.0, least=0) / 1000.0,
            acceptance=acceptance,
        )

    def _demand(self, index: int, entry: Mapping[str, Any], models: set[str]) -> Demand:
        self._known("demand", index, entry, _DEMAND)
        model = entry.get("model")
        if model not in models:
            raise self._wrong("demand", index, "model", f"{model!r} is served by no worker of this fleet")
        share = self._number("demand", index, entry, "share", 1.0, least=0)
        if share <= 0:
            raise self._wrong("demand", index, "share", "must be above zero")
        floor = entry.get("floor")
        if floor is not None and not isinstance(floor, str):
            raise self._wrong("demand", index, "floor", f'names a quantization such as "q8_0", not {floor!r}')
        if floor is not None and find_format(floor) is None:
            raise self._wrong("demand", index, "floor", f"names an {unknown_format(floor)}")
        return Demand(model=model, share=share, floor=canonical(floor) if floor else None)

    def _number(
        self, table: str, index: int, entry: Mapping[str, Any], field: str, default: float, *, least: float
    ) -> float:
        value = entry.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
            raise self._wrong(table, index, field, f"must be a number of at least {least:g}, not {value!r}")
        return value

    def _whole(self, table: str, index: int, entry: Mapping[str, Any], field: str, default: int, *, least: int) -> int:
        value = self._number(table, index, entry, field, default, least=least)
        if value != int(value):
            raise self._wrong(table, index, field, f"must be a whole number, not {value!r}")
        return int(value)

    def _known(self, table: str, index: int, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
        for field in entry:
            if field not in fields:
                raise self._wrong(table, index, field, f"is not a field of [[{table}]]; known are {', '.join(fields)}")

    def _unique(self, index: int, nodes: list[NodeSpec], more: list[NodeSpec]) -> None:
        seen = {node.node for node in nodes}
        for node in more:
            if node.node in seen:
                raise self._wrong("worker", index, "node", f"{node.node!r} is there twice")

    def _wrong(self, table: str, index: int, field: str, problem: str) -> Exception:
        return error_at(self.source, self.lines.line(table, index, field), f"{table}.{field}" if field else "", problem)


def _node(name: str, entry: Mapping[str, Any], profile: SimulatedProfile, rtt_s: float) -> NodeSpec:
    declared, shape, machine = profile.declared, profile.shape, profile.machine
    return NodeSpec(
        node=name,
        model=entry["model"],
        declared=declared,
        rtt_s=rtt_s,
        machine=entry["profile"],
        profile=WorkerProfile(
            worker_id=WorkerId(name),
            incarnation="1",
            node=name,
            hardware=Hardware(
                kind="simulated",
                name=f"simulated {machine.name}",
                memory_bytes=int(machine.memory_bytes),
                bandwidth_bytes_per_s=machine.bandwidth_bytes_per_s,
            ),
            engine="simulated",
        ),
        instance=ModelInstance(
            model=entry["model"],
            quantization=profile.quantization,
            format="simulated",
            weights_bytes=int(profile.weights_bytes),
            parameters=int(shape.parameters),
            layers=shape.layers,
            context_tokens=declared.context_tokens,
            slots=declared.slots,
            kv_capacity_tokens=declared.kv_capacity_tokens,
            kv_bytes_per_token=kv_bytes_per_token(shape),
            capabilities=Capabilities(can_continue=True, publishes_cache=True),
            speed=_speed(declared),
        ),
    )


def _speed(parameters: EngineParameters) -> Speed:
    return Speed(
        base_s=parameters.base_s,
        per_sequence_s=parameters.per_sequence_s,
        per_context_token_s=parameters.per_context_token_s,
        prefill_tokens_per_s=1.0 / parameters.prefill_token_s,
        prefill_base_s=parameters.prefill_base_s,
        decode_curve=parameters.decode_curve,
        prefill_curve=parameters.prefill_points,
    )


def known(node: NodeSpec, true: EngineParameters) -> NodeSpec:
    """The node with nothing hidden: it declares what it really is."""
    return replace(node, instance=replace(node.instance, speed=_speed(true)))
