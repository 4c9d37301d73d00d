"""What a wheel says of itself, the ``dist-info`` files: from the installation, or from pyproject.toml in a checkout.

An editable installation's metadata is as old as its last `pip install`, and the code beside it is not.
"""

import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from router.errors import ConfigError

PROJECT = "allsorts"

_WHEEL = "Wheel-Version: 1.0\nGenerator: allsorts\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def own_metadata(root: Path) -> tuple[str, dict[str, str]]:
    """Version, and the files by name, of the code below ``root``. Raises ConfigError."""
    checkout = root / "pyproject.toml"
    if checkout.exists():
        project = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]
        about = {"METADATA": metadata_of(project), "entry_points.txt": entry_points_of(project)}
        return str(project["version"]), {**about, "WHEEL": _WHEEL}
    try:
        installed = distribution(PROJECT)
    except ImportError:
        raise ConfigError(f"{PROJECT} runs here without being installed; install it with pip") from None
    names = ("METADATA", "entry_points.txt")
    return installed.version, {**{name: installed.read_text(name) or "" for name in names}, "WHEEL": _WHEEL}


def metadata_of(project: dict[str, Any]) -> str:
    """Core metadata 2.1 of a ``[project]`` table, as far as installers read it."""
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {one}" for one in project["dependencies"]),
    ]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for one in needs:
            name, _, marker = one.partition(";")
            condition = f'({marker.strip()}) and extra == "{extra}"' if marker else f'extra == "{extra}"'
            lines.append(f"Requires-Dist: {name.strip()}; {condition}")
    return "\n".join([*lines, ""])


def entry_points_of(project: dict[str, Any]) -> str:
    """``entry_points.txt`` of a ``[project]`` table."""
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    return "\n".join(
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), "")
    )
