"""Where benchmarks keep their figures: one JSON object a name; a bench made of parts adds its keys to what is there."""

import json
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path("build/bench")


def keep(name: str, figures: Mapping[str, object], *, folder: Path = FOLDER) -> Path:
    """Adds ``figures`` to ``folder/NAME.json``, replacing keys of the same name, and says where that is.

    Raises ValueError when the file holds something else than an object.
    """
    path = folder / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(known, dict):
        raise ValueError(f"{path} holds no object: delete it, or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**known, **figures}, indent=1) + "\n", encoding="utf-8")
    return path
