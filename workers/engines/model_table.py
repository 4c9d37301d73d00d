"""The models an engine has loaded, by name and quantization: load, unload and close, written once.

A mixin of engines. An engine says how one model starts and stops, and keeps of each whatever it likes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from protos.contract.events import DraftReport
from protos.contract.request import EmbeddingInputs
from protos.contract.stream import RefusalCode
from protos.contract.worker import ModelInstance
from workers.drafting.link import DraftLink
from workers.engines.base import Counted, Embedded, LoadError, ModelSpec, Progress, Refused, Scored


class Held(Protocol):
    """What an engine keeps of a model that is loaded."""

    @property
    def loaded(self) -> ModelInstance:
        """Its facts."""
        ...


H = TypeVar("H", bound=Held)


class ModelTable(ABC, Generic[H]):
    """Implements the models' half of ``workers.engines.base.Engine``."""

    kind: str

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], H] = {}

    @abstractmethod
    async def start_model(self, spec: ModelSpec, progress: Progress) -> H:
        """Load one model. Raises LoadError; nothing stays allocated then."""

    @abstractmethod
    async def stop_model(self, held: H, reason: str) -> None:
        """End what one model runs and free its memory."""

    async def load(self, spec: ModelSpec, progress: Progress) -> ModelInstance:
        """Load a model. Raises LoadError, also for one that is loaded already."""
        held = await self.start_model(spec, progress)
        key = held.loaded.key
        if key in self._held:
            await self.stop_model(held, "loaded twice")
            raise LoadError(f"{spec.path}: '{key[0]}' is loaded at {key[1]} already")
        self._held[key] = held
        return held.loaded

    async def unload(self, name: str, quantization: str) -> None:
        """Free a model; unknown ones are ignored."""
        held = self._held.pop((name, quantization), None)
        if held is not None:
            await self.stop_model(held, f"{name} is being unloaded")

    async def close(self) -> None:
        """Unload everything. Idempotent."""
        for key in tuple(self._held):
            await self.unload(*key)

    @property
    def models(self) -> tuple[ModelInstance, ...]:
        """What is loaded now."""
        return tuple(one.loaded for one in self._held.values())

    def held(self) -> Iterator[H]:
        """What is kept of every model, in the order of their loads."""
        return iter(self._held.values())

    def find(self, model: str, quantization: str) -> H:
        """What is kept of this model; any quantization when none is named. Raises Refused."""
        held = self._held.get((model, quantization))
        if held is None and not quantization:
            held = next((one for (name, _), one in self._held.items() if name == model), None)
        if held is None:
            raise Refused(RefusalCode.MODEL_NOT_LOADED, f"'{model}' at {quantization or 'any'} is not loaded here")
        return held

    # ------------------------------------------------------------ what few engines can

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Refused, unless an engine can."""
        del text, token_ids
        raise Refused(RefusalCode.UNSUPPORTED, f"{self._called(model, quantization)} cannot score given tokens")

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        """Refused, unless an engine can."""
        del asked, counted
        raise Refused(RefusalCode.UNSUPPORTED, f"{self._called(model, quantization)} has no embeddings")

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        """Refused, unless an engine can; to be rid of a draft is no trouble."""
        if link is not None:
            raise Refused(RefusalCode.UNSUPPORTED, f"{self._called(model, quantization)} takes no drafts from outside")

    def draft_reports(self) -> tuple[DraftReport, ...]:
        """None, unless an engine takes drafts."""
        return ()

    def _called(self, model: str, quantization: str) -> str:
        return f"'{self.find(model, quantization).loaded.model}' as engine {self.kind} serves it"
