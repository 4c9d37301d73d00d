"""The model files on this machine that a router may have loaded: what it is told of them, and where each lies."""

from dataclasses import replace
from pathlib import Path

import structlog

from protos.contract.validation import MAX_MODELS
from protos.contract.worker import InstanceState, ModelInstance
from workers.config import public_name
from workers.engines.base import LoadError
from workers.engines.spec import EngineSpec

log = structlog.get_logger(__name__)


class LocalFiles:
    """Those in ``folder`` and below, by the names of the files. A later one of the same name is not seen."""

    def __init__(self, engine: EngineSpec, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._paths: dict[str, Path] = {}
        self.reports: tuple[ModelInstance, ...] = ()

    def look(self) -> None:
        """Read the headers of what lies there now, at most ``MAX_MODELS``. Blocks."""
        found: dict[str, tuple[Path, ModelInstance]] = {}
        for path in sorted(self._engine.find_models(self._folder)):
            if path.name in found or len(found) >= MAX_MODELS:
                continue
            try:
                told = self._engine.read_model(path)
            except LoadError as error:
                log.warning("model_file.unreadable", path=str(path), reason=str(error))
                continue
            name = public_name(str(path))
            found[path.name] = (path, replace(told, model=name, file=path.name, state=InstanceState.UNLOADED))
        self._paths = {name: path for name, (path, _) in found.items()}
        self.reports = tuple(report for _, report in found.values())

    def path_of(self, named: str) -> str:
        """Where a file lies that a router named as it was told; anything else is a path (or a profile) of its own."""
        path = self._paths.get(named)
        return named if path is None else str(path)
