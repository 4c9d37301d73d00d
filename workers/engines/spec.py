"""What the rest of a worker knows of an engine before one is made; nobody else compares engines by name.

Importing a specification imports no runtime, so that a Mac installs none of the others.
"""

from abc import ABC
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from protos.contract.addresses import is_loopback
from protos.contract.worker import Hardware, ModelInstance
from workers.engines.base import DraftingEngine, Engine, LoadError
from workers.hardware.cpu import compute_cores

SHARE_CORES = "share_cores"
"""A model's option, of engines with ``default_threads``: ``threads`` are the most, and how many it is follows from who
else computes on this machine."""


class EngineSpec(ABC):
    """One engine's traits. What an engine does not say for itself holds for most."""

    name: str
    """As people give it with ``--engine``, and as workers report it."""
    serves: str
    """What its models are, in a few words for the help texts."""
    factory: str
    """``module:Class`` of the engine, imported when one is made."""
    draft_factory: str = ""
    """The same of what drafts for other workers; empty: it drafts for nobody."""
    extra: str = ""
    """Of this project's package, that installs the runtime; empty: the base install has it."""
    module: str = ""
    """That the extra brings; empty: none."""
    model_files: str = ""
    """What its models look like on disk; empty: they are not found there."""
    default_threads: int = 0
    """Of a processor that it computes on unless told otherwise, as far as it has them; 0: the runtime decides."""
    capped_slots: int = 0
    """Slots where the owner caps its memory, as ``memory_bytes`` reckons them; 0: as it decides by itself."""
    asks_server: bool = False
    """Its models are those of a server that runs already, at ``base_url``. A ``ModelSpec`` has that URL as its path,
    and the server's name of the model as its option ``upstream_model``."""

    @property
    def installation(self) -> str:
        """What installs the runtime."""
        return f"pip install 'allsorts[{self.extra}]'" if self.extra else "pip install allsorts"

    def installed(self) -> bool:
        """Whether the runtime is in this environment."""
        return not self.module or find_spec(self.module) is not None

    def make(self) -> Engine:
        """A new engine. Raises LoadError when its package is missing."""
        engine: Engine = self._made(self.factory)
        return engine

    def make_drafting(self) -> DraftingEngine:
        """The same, drafting for others. Raises LoadError also where it cannot."""
        if not self.draft_factory:
            raise LoadError(f"engine {self.name!r} drafts for nobody")
        engine: DraftingEngine = self._made(self.draft_factory)
        return engine

    def _made(self, factory: str) -> Any:
        module, _, name = factory.partition(":")
        try:
            engine = getattr(import_module(module), name)()
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] == "workers":
                raise
            raise LoadError(f"the package {missing.name} is not installed: {self.installation}") from None
        return engine

    def accelerates(self) -> bool:
        """Whether it computes, as it is installed here, on the machine's GPU; true when that cannot be told."""
        return True

    def computes_here(self, base_url: str) -> bool:
        """Whether its models compute on this machine, whose other workers then notice; a server's by its address."""
        return not self.asks_server or is_loopback(urlsplit(base_url).hostname or "")

    def with_threads(self, hardware: Hardware, asked: int) -> Hardware:
        """A processor together with how many threads compute on it; other hardware as it is."""
        threads = asked or min(self.default_threads, compute_cores(hardware) or 1)
        if hardware.kind != "cpu" or not threads:
            return hardware
        return replace(hardware, details={**hardware.details, "threads": str(threads)})

    def hardware_of(self, path: str, quantization: str) -> Hardware | None:
        """The machine that a model comes with, where it is not the one this runs on. Raises LoadError."""
        del path, quantization
        return None

    # ------------------------------------------------------------ models on this machine

    def check(self, path: str) -> None:
        """Raise LoadError for what loading would fail at, as far as it can be told at once. Blocks."""
        if path.startswith(("/", "./", "../")) and not Path(path).exists():
            raise LoadError(f"{path}: no such file or folder; check the path")

    def memory_bytes(self, path: Path, context_tokens: int, slots: int) -> int:
        """What a model takes once it is loaded, its weights at the least. 0 for context or slots: the engine's default.
        Raises LoadError where nothing is known before it is loaded. Blocks.
        """
        del context_tokens, slots
        return self.read_model(path).weights_bytes

    def find_models(self, folder: Path) -> Iterable[Path]:
        """Models in a folder and below, in no order. Blocks."""
        del folder
        return ()

    def quantization_of(self, path: Path) -> str:
        """What a found model says that it holds; empty: nothing. Blocks."""
        return self.read_model(path).quantization

    def read_model(self, path: Path) -> ModelInstance:
        """Facts about a model that is not loaded. Raises LoadError when there are none to be read. Blocks."""
        raise LoadError(f"{path}: its facts are known once it is loaded")

    # ------------------------------------------------------------ models of a running server

    async def discover(self, base_url: str, api_key: str) -> tuple[str, ...]:
        """What the server calls its models. Raises LoadError; only for engines that ask one."""
        raise LoadError(f"engine {self.name!r} asks no server ({base_url}, {'with' if api_key else 'without'} a key)")
