"""How a model can be loaded on a node: from which file, at which quantization, and what it takes there."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from protos.contract.models.model_name import parse_name, quantization_in
from protos.contract.models.quality import at_least, loss
from protos.contract.models.quantization import canonical
from protos.contract.worker import ModelInstance
from router.fleet.desired.values import DesiredModel, Source
from router.fleet.desired.wishes import Wish, parse_wish
from router.fleet.planning.memory import needs_bytes
from router.fleet.planning.observed import Node, Observed

Known = Mapping[str, tuple[ModelInstance, ...]]
"""Facts of files and copies anywhere in the pool, by file name."""

POOL = ("pool",)
"""A file is fetched from whichever machine has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One."""

    quantization: str
    file: str
    needs_bytes: float
    order: str
    rank: float  # lower is better
    sources: tuple[str, ...] = ()  # where the file is fetched from; empty: it lies there

    @property
    def fetch(self) -> bool:
        """The file has to travel first."""
        return bool(self.sources)


def known_files(observed: Observed) -> Known:
    """What somebody has told of a file: of many who told the same, one."""
    found: dict[str, tuple[ModelInstance, ...]] = {}
    for node in observed.nodes:
        for told in (*node.files, *(copy.instance for copy in node.copies)):
            if told.file and (told.file not in found or (told.parameters and not found[told.file][0].parameters)):
                found[told.file] = (told,)
    return found


def why_not_there(model: DesiredModel, node: Node) -> str:
    """Why a node is none for the model, whatever it holds; empty: it is one."""
    if not node.takes_models:
        return "takes no models (its owner chose what it serves)"
    if model.engine and model.engine != node.engine:
        return f"runs {node.engine}, not {model.engine}"
    lacking = [f"{key}={value}" for key, value in model.labels.items() if node.labels.get(key) != value]
    if lacking:
        return f"lacks the label {', '.join(lacking)}"
    if unmet := _wish(model.where).unmet(node.hardware):
        return f"is not what is wished for: {unmet}"
    return ""


def ways(model: DesiredModel, node: Node, known: Known, *, travels: Mapping[str, int]) -> list[Way]:
    """Best first; empty: no file of the model is in reach of the node. ``travels``: files that it may fetch."""
    found: dict[str, Way] = {}
    for quantization, file, sources in _files(model, node, known, travels):
        if not wanted_quantization(model, quantization) or quantization in found:
            continue
        base = file.rpartition("/")[2]
        facts = [*known.get(base, ()), *_named(model.name)]
        needs = needs_bytes(
            facts,
            quantization,
            context_tokens=model.context,
            slots=model.slots,
            hardware=node.hardware,
            engine=node.engine,
        )
        found[quantization] = Way(
            quantization=quantization,
            file=file,
            needs_bytes=needs,
            order=order_of(model, file),
            rank=_rank(model, quantization),
            sources=sources,
        )
    return sorted(found.values(), key=lambda one: (one.rank, one.fetch))


def order_of(model: DesiredModel, file: str) -> str:
    """What a worker repeats of a load; a copy whose order reads otherwise is loaded anew."""
    return f"context={model.context} slots={model.slots} tp={model.tensor_parallel} file={file}"


def read_order(order: str) -> tuple[int, int, str]:
    """Context, slots and file of an order; zeros and nothing of one that reads otherwise."""
    found = re.fullmatch(r"context=(\d{1,9}) slots=(\d{1,9}) tp=\d+ file=(.*)", order)
    return (int(found[1]), int(found[2]), found[3]) if found else (0, 0, "")


def _files(
    model: DesiredModel, node: Node, known: Known, travels: Mapping[str, int]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Quantization, the file as the worker is told it, and where it is fetched from; nothing, where it lies there."""
    here = {one.file: one for one in node.files}
    if not model.sources:
        for name, told in here.items():
            if told.model == model.name:
                yield canonical(told.quantization), name, ()
        for name, size in travels.items():
            first = known.get(name, (None,))[0]
            if name not in here and first is not None and first.model == model.name and size <= node.room_bytes:
                yield canonical(first.quantization), name, POOL
    for source in model.sources:
        base = (source.path or source.pool or source.file).rpartition("/")[2]
        facts = [*([here[base]] if base in here else []), *known.get(base, ())]
        if base in here or source.path:
            yield _holds(source, base, facts), source.path or base, ()
        elif base in travels and travels[base] <= node.room_bytes:
            yield _holds(source, base, facts), base, POOL
        elif source.repo and node.room_bytes:
            yield _holds(source, base, facts), base, (f"hf:{source.repo}/{source.file}",)


def _holds(source: Source, base: str, facts: Iterable[ModelInstance]) -> str:
    told = next((one.quantization for one in facts if one.quantization), "")
    return canonical(source.quantization or told or quantization_in(base))


def wanted_quantization(model: DesiredModel, quantization: str) -> bool:
    """Among those that the file names; else at its floor at least."""
    if model.quantizations:
        return quantization in map(canonical, model.quantizations)
    return not model.floor or at_least(quantization, canonical(model.floor))


def acceptable(model: DesiredModel, instance: ModelInstance) -> bool:
    """Whether a copy that somebody's owner chose counts as one of the model's."""
    return not instance.quantization or wanted_quantization(model, canonical(instance.quantization))


def _rank(model: DesiredModel, quantization: str) -> float:
    named = [canonical(one) for one in model.quantizations]
    if quantization in named:
        return float(named.index(quantization))
    lost = loss(70e9, quantization)
    return lost if math.isfinite(lost) else 1e9


@lru_cache(maxsize=1024)
def _named(name: str) -> tuple[ModelInstance, ...]:
    """Of a model of which nobody has told anything, its name may still say what it is."""
    return (ModelInstance(model=parse_name(name).model, quantization=""),)


@lru_cache(maxsize=512)
def _wish(text: str) -> Wish:
    return parse_wish(text)
