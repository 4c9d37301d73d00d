"""What a joining machine serves: what its owner names, or the best of the router's offers among the local files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from protos.contract.joining.enrolment import ModelOffer
from protos.contract.worker import InstanceState, ModelInstance
from workers.config import ConfigError, ModelConfig, public_name
from workers.engines.base import LoadError
from workers.engines.spec import EngineSpec

MAX_TOLD = 32
"""Files whose facts the router is told when a machine joins; the option list shows fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing this machine could serve. ``offer`` is None where the router says nothing about it."""

    name: str
    quantization: str
    path: str
    offer: ModelOffer | None = None

    @property
    def config(self) -> ModelConfig:
        """As the worker is told."""
        return ModelConfig(name=self.name, path=self.path)


def local_options(engine: EngineSpec, folder: Path, offers: tuple[ModelOffer, ...]) -> list[Option]:
    """Models in ``folder`` and below: those the router offers first, in its order, then the others by name."""
    found: list[Option] = []
    for path in sorted(engine.find_models(folder)):
        name, quantization = public_name(str(path)), _quantization(engine, path)
        offer = _offer_for(name, quantization, offers)
        found.append(Option(name=name, quantization=quantization, path=str(path), offer=offer))
    rank = {id(offer): place for place, offer in enumerate(offers)}
    return sorted(found, key=lambda one: (rank.get(id(one.offer), len(offers)), one.name, one.quantization))


def _quantization(engine: EngineSpec, path: Path) -> str:
    try:
        return engine.quantization_of(path)
    except LoadError:
        return ""  # the engine says what is wrong with it, if it is chosen


def models_here(engine: EngineSpec, folder: Path, named: Iterable[ModelConfig] = ()) -> tuple[ModelInstance, ...]:
    """What the model files tell of themselves: those named, or else those in ``folder``. One that cannot be read is
    left out here; loading it says why. Reads headers only, but blocks.
    """
    chosen = [(one.name or public_name(one.path), Path(one.path)) for one in named]
    if not chosen:
        chosen = [(public_name(str(path)), path) for path in sorted(engine.find_models(folder))]
    reports = (_report(engine, name, path) for name, path in chosen[:MAX_TOLD])
    return tuple(one for one in reports if one is not None)


def _report(engine: EngineSpec, name: str, path: Path) -> ModelInstance | None:
    try:
        return replace(engine.read_model(path), model=name, state=InstanceState.UNLOADED)
    except LoadError:
        return None


def choose(
    engine: EngineSpec, offers: tuple[ModelOffer, ...], folder: Path, *, ask: Callable[[list[Option]], int] | None
) -> Option:
    """The owner's pick, or without ``ask`` the first. Raises ConfigError when there is nothing to choose from."""
    options = local_options(engine, folder, offers)
    if not options:
        wanted = "; the router would like " + ", ".join(f"{o.model}@{o.quantization}" for o in offers[:3])
        raise ConfigError(
            f"no model files ({engine.model_files or engine.serves}) in {folder}{wanted if offers else ''}; "
            "name one with --model NAME=PATH, or another folder with --models"
        )
    return options[ask(options) if ask is not None else 0]


def _offer_for(name: str, quantization: str, offers: Iterable[ModelOffer]) -> ModelOffer | None:
    return next((one for one in offers if (one.model, one.quantization.lower()) == (name, quantization)), None)
