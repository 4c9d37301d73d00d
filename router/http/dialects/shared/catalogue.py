"""The models there are, as any dialect lists them: by name, and each quantization that is loaded now, pinned."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from protos.contract.worker import InstanceState, ModelInstance
from router.domain.snapshot import FleetSnapshot

T = TypeVar("T")

FEW = 256
"""Models, each at each worker, that are listed where they are asked for: in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """``model_id`` is what a client asks for; figures are of the best that is loaded, 0 and empty while none is."""

    model_id: str
    name: str
    quantizations: tuple[str, ...]
    instances: tuple[ModelInstance, ...]  # loaded now

    @property
    def context_tokens(self) -> int:
        """The longest context of them."""
        return max((one.context_tokens for one in self.instances), default=0)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What at least one of them can do."""
        found = [one.capabilities for one in self.instances]
        said = {
            "chat": any(one.chat and not one.embeds_only for one in found),
            "completion": any(not one.embeds_only for one in found),
            "embeddings": any(one.can_embed for one in found),
            "tools": any(one.tools for one in found),
            "structured_output": any(one.grammars for one in found),
            "vision": any(one.vision for one in found),
            "reasoning": any(one.reasoning for one in found),
            "logprobs": any(one.logprobs for one in found),
        }
        return tuple(name for name, can in said.items() if can)


def catalogue(fleet: FleetSnapshot, known: Sequence[str]) -> dict[str, ModelFacts]:
    """By id; ``known``: names that were ever served, listed also while nobody has them."""
    loaded: dict[str, list[ModelInstance]] = {name: [] for name in known}
    for worker in fleet.workers:
        for instance in worker.models:
            if instance.state is InstanceState.READY:
                loaded.setdefault(instance.model, []).append(instance)
    found: dict[str, ModelFacts] = {}
    for name, instances in sorted(loaded.items()):
        quantizations = sorted({one.quantization for one in instances})
        found[name] = _facts(name, name, quantizations, instances)
        for quantization in quantizations:
            pinned = f"{name}@{quantization}"
            these = [one for one in instances if one.quantization == quantization]
            found[pinned] = _facts(pinned, name, [quantization], these)
    return found


class Listing:
    """What is made of the catalogue: of a large one beside the event loop, one at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)

    async def of(self, fleet: FleetSnapshot, known: Sequence[str], make: Callable[[dict[str, ModelFacts]], T]) -> T:
        """``make`` must not touch what the event loop changes."""
        if len(known) + sum(len(worker.models) for worker in fleet.workers) <= FEW:
            return make(catalogue(fleet, known))
        async with self._one:
            return await asyncio.to_thread(lambda: make(catalogue(fleet, known)))


def _facts(model_id: str, name: str, quantizations: list[str], instances: list[ModelInstance]) -> ModelFacts:
    return ModelFacts(model_id=model_id, name=name, quantizations=tuple(quantizations), instances=tuple(instances))
