"""The desired state as values: JSON-ready, so that the store, the admin API and ``fleet.toml`` share one form."""

from typing import Annotated

import msgspec
from msgspec import Meta

DEFAULT_CONTEXT_TOKENS = 4096
DEFAULT_SLOTS = 4
"""Of a model whose file says nothing: the planner reckons with them, and so the worker is told them."""

MAX_MODELS = 256
MAX_SOURCES = 16
MAX_COPIES = 1024

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Text = Annotated[str, Meta(max_length=1024)]
_Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
_Count = Annotated[int, Meta(ge=0, le=MAX_COPIES)]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model's file comes from: exactly one of ``path`` (on the worker's machine), ``pool`` (the name of a file
    that some machine of the pool has) and ``repo`` with ``file`` (Hugging Face).
    """

    path: _Text = ""
    pool: _Text = ""
    repo: _Text = ""
    file: _Text = ""
    quantization: Annotated[str, Meta(max_length=64)] = ""  # that it holds; empty: as its name says


class Copies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers hold the model. ``min`` 0: none, until somebody asks for it."""

    min: _Count = 1
    max: _Count = 1


class DesiredModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that is wanted. ``sources`` empty: any file of its name that lies on a machine of the pool."""

    name: _Name
    sources: Annotated[tuple[Source, ...], Meta(max_length=MAX_SOURCES)] = ()
    quantizations: Annotated[tuple[str, ...], Meta(max_length=16)] = ()  # best first; empty: the best that fits
    engine: Annotated[str, Meta(max_length=64)] = ""  # empty: whichever the worker has
    context: Annotated[int, Meta(ge=1, le=2**24)] = DEFAULT_CONTEXT_TOKENS
    slots: Annotated[int, Meta(ge=1, le=4096)] = DEFAULT_SLOTS
    floor: Annotated[str, Meta(max_length=64)] = ""  # lowest quantization, for requests that name none
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    copies: Copies = Copies()
    where: Annotated[str, Meta(max_length=200)] = ""  # a wish for hardware, see ``wishes``; empty: anywhere
    labels: dict[_Name, _Text] = {}
    idle_s: _Seconds = 600.0  # a copy above ``min`` that nobody used for so long may go
    pin: bool = False  # its copies never make room for another model


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the fleet changes. Every number is a bound that a test holds it to."""

    residence_s: _Seconds = 10.0  # a copy that was loaded stays at least so long
    turn_s: _Seconds = 30.0  # one that is busy makes room for those who have waited so long
    drain_s: _Seconds = 30.0  # what runs on a copy that goes may finish in so long; then it moves or goes back
    keep_alive_least_s: _Seconds = 0.0  # what a request of Ollama's API may ask for
    keep_alive_most_s: _Seconds = 3600.0


class DesiredState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    models: Annotated[tuple[DesiredModel, ...], Meta(max_length=MAX_MODELS)] = ()
    rules: Rules = Rules()

    def model(self, name: str) -> DesiredModel | None:
        """By its public name."""
        return next((one for one in self.models if one.name == name), None)


NOTHING = DesiredState()
