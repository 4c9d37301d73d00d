"""The models whose files lie in a folder (and those named beside it): found, hashed, told apart by content. Blocks."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.contract.files.content import HeldModel, ModelContent
from protos.contract.files.hashing import HashCache
from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import stated_quantization
from protos.contract.models.hf_folder import read_config
from protos.contract.models.model_name import parse_name

MAX_MODELS = 256
"""In one library; more are left out."""

Names = Mapping[Path, tuple[str, str]]
"""Model files or folders by path, with the public name and the quantization they are served as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """A model and where it lies: its first file, or its folder."""

    held: HeldModel
    path: Path

    def file(self, name: str) -> Path:
        """One of its parts."""
        return (self.path if self.path.is_dir() else self.path.parent) / name


class ModelLibrary:
    """``folder`` and below, hidden files apart. ``look`` in a thread; everything else at any time."""

    def __init__(self, folder: Path, cache: HashCache) -> None:
        self.folder = folder
        self.cache = cache
        self._shelved: tuple[Shelved, ...] = ()
        self._files: dict[str, tuple[Path, str]] = {}
        self._looking = threading.Lock()
        self._stopped = False

    @property
    def shelved(self) -> tuple[Shelved, ...]:
        """What is here, whole and hashed, as of the last look."""
        return self._shelved

    @property
    def held(self) -> tuple[HeldModel, ...]:
        """The same, as others are told."""
        return tuple(one.held for one in self._shelved)

    def file_of(self, sha256: str) -> tuple[Path, str] | None:
        """Where a file lies, and the public name of a model it belongs to; None: not here."""
        return self._files.get(sha256)

    def find(self, content: str) -> Shelved | None:
        """The model of this content; None: not here."""
        return next((one for one in self._shelved if one.held.content.sha256 == content), None)

    def look(self, named: Names | None = None) -> list[str]:
        """Once; the answer is what could not be read, one line each. A file that is new is read as a whole."""
        with self._looking:
            shelved, problems = [], []
            for path, names in self._found(named or {}).items():
                try:
                    shelved.append(self._shelve(path, names))
                except (BadModelFile, OSError) as error:
                    if self._stopped:
                        return []
                    problems.append(str(error))
            self._shelved = tuple(shelved)
            self._files = {
                part.sha256: (one.file(part.name), one.held.model) for one in shelved for part in one.held.content.parts
            }
            return problems

    def delete(self, one: Shelved) -> None:
        """Its files, and the folder that held nothing else. Raises OSError."""
        files = [one.file(part.name) for part in one.held.content.parts]
        for file in files:
            file.unlink(missing_ok=True)
        parent = files[0].parent
        if parent != self.folder.absolute() and not any(parent.iterdir()):
            parent.rmdir()

    def stop(self) -> None:
        """End a look that runs: nobody waits for it."""
        self._stopped = True

    def _found(self, named: Names) -> dict[Path, tuple[str, str] | None]:
        found: dict[Path, tuple[str, str] | None] = {path.absolute(): names for path, names in named.items()}
        with contextlib.suppress(OSError):
            for path in sorted(_candidates(self.folder.absolute())):
                found.setdefault(path, None)
        return dict(list(found.items())[:MAX_MODELS])

    def _shelve(self, path: Path, names: tuple[str, str] | None) -> Shelved:
        content = self.cache.content(path, stop=lambda: self._stopped)
        return Shelved(held=described(path, content, names), path=path)


def described(path: Path, content: ModelContent, names: tuple[str, str] | None = None) -> HeldModel:
    """The model at ``path`` as others are told of it; ``names``: what it is served as. Raises BadModelFile."""
    if path.is_dir():
        kind, stated = "safetensors", read_config(path / "config.json").stated.name
    else:
        kind, stated = "gguf", stated_quantization(path)
    model, quantization = names or (parse_name(path.name).model.lower(), "")
    return HeldModel(model=model, quantization=quantization or stated, format=kind, content=content)


def _candidates(folder: Path) -> Iterator[Path]:
    """GGUF files, of a split model the first, and folders with weights beside their config.json."""
    for path in folder.rglob("*.gguf"):
        if not _hidden(path, folder) and parse_name(path.name).shard in (0, 1) and path.is_file():
            yield path
    for config in folder.rglob("config.json"):
        if not _hidden(config, folder) and next(config.parent.glob("*.safetensors"), None) is not None:
            yield config.parent


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
