"""Where benchmarks keep their figures: one JSON object a name; a bench made of parts adds its keys to what is there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path("build/bench")


def known(name: str, *, folder: Path = FOLDER) -> dict[str, Any]:
    """What ``folder/NAME.json`` has so far. Raises ValueError when it holds something else than an object."""
    path = folder / f"{name}.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(figures, dict):
        raise ValueError(f"{path} holds no object: delete it, or choose another name")
    return figures


def keep(name: str, figures: Mapping[str, object], *, folder: Path = FOLDER) -> Path:
    """Adds ``figures`` to ``folder/NAME.json``, replacing keys of the same name, and says where that is.

    Raises ValueError when the file holds something else than an object.
    """
    path = folder / f"{name}.json"
    before = known(name, folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**before, **figures}, indent=1) + "\n", encoding="utf-8")
    return path
