"""What a joining machine serves: what its owner names, or the best of the router's offers among the local files."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workers.config import ConfigError, ModelConfig, public_name
from workers.engines.base import Capabilities, LoadedModel, LoadError
from workers.facts import ModelReport, ModelState, Offer
from workers.models.gguf_file import read_gguf, stated_quantization

FILES_LIMIT = 10_000

TOLD_LIMIT = 32
"""Files whose facts the router is told when a machine joins; the option list shows fewer."""

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
"""Of a model split over several files: llama.cpp is given the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing this machine could serve. ``offer`` is None where the router says nothing about it."""

    name: str
    quantization: str
    path: str
    offer: Offer | None = None

    @property
    def config(self) -> ModelConfig:
        """As the worker is told."""
        return ModelConfig(name=self.name, path=self.path)


def local_options(folder: Path, offers: tuple[Offer, ...]) -> list[Option]:
    """Model files in ``folder`` and below: those the router offers first, in its order, then the others by name."""
    found: list[Option] = []
    for path in sorted(_model_files(folder)):
        name, quantization = public_name(str(path)), stated_quantization(path)
        found.append(
            Option(name=name, quantization=quantization, path=str(path), offer=_offer_for(name, quantization, offers))
        )
    rank = {id(offer): place for place, offer in enumerate(offers)}
    return sorted(found, key=lambda one: (rank.get(id(one.offer), len(offers)), one.name, one.quantization))


def files_here(folder: Path, named: Iterable[ModelConfig] = ()) -> tuple[ModelReport, ...]:
    """What the model files' headers tell: of those named, or else of those in ``folder``. One that cannot be read is
    left out here; loading it says why. Reads headers only, but blocks.
    """
    chosen = [(one.name or public_name(one.path), Path(one.path)) for one in named]
    if not chosen:
        chosen = [(public_name(str(path)), path) for path in sorted(_model_files(folder))]
    reports = (_told(name, path) for name, path in chosen[:TOLD_LIMIT] if path.suffix == ".gguf")
    return tuple(one for one in reports if one is not None)


def _told(name: str, path: Path) -> ModelReport | None:
    try:
        facts = read_gguf(path)
    except LoadError:
        return None
    loaded = LoadedModel(
        name=name,
        quantization=facts.quantization,
        format="gguf",
        context_tokens=facts.context_tokens,
        slots=1,
        capabilities=Capabilities(),
        bits_per_weight=facts.bits_per_weight,
        weights_bytes=facts.weights_bytes,
        parameters=facts.parameters,
        active_parameters=facts.active_parameters,
        layers=facts.layers,
        kv_heads=facts.kv_heads,
        head_dim_k=facts.head_dim_k,
        head_dim_v=facts.head_dim_v,
        kv_bytes_per_token=facts.kv_bytes_per_token,
        lineage=facts.lineage,
        file=path.name,
    )
    return ModelReport(model=name, quantization=facts.quantization, state=ModelState.UNLOADED, loaded=loaded)


def choose(offers: tuple[Offer, ...], folder: Path, *, ask: Callable[[list[Option]], int] | None) -> Option:
    """The owner's pick, or without ``ask`` the first. Raises ConfigError when there is nothing to choose from."""
    options = local_options(folder, offers)
    if not options:
        wanted = "; the router would like " + ", ".join(f"{o.model}@{o.quantization}" for o in offers[:3])
        raise ConfigError(
            f"no model files (*.gguf) in {folder}{wanted if offers else ''}; name one with --model NAME=PATH, "
            "or another folder with --models"
        )
    return options[ask(options) if ask is not None else 0]


def _offer_for(name: str, quantization: str, offers: Iterable[Offer]) -> Offer | None:
    return next((one for one in offers if (one.model, one.quantization.lower()) == (name, quantization)), None)


def _model_files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for path in folder.rglob("*.gguf"):
        if path.is_file() and not _LATER_PART.search(path.name):
            files.append(path)
        if len(files) >= FILES_LIMIT:
            break
    return files
