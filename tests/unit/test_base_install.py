"""A bare install runs the worker's commands: what they import as they load is declared, not there by chance."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = {"router", "workers", "protos", "loadtest"}
IMPORTED_AS = {
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection",
    "protobuf": "google",
    "nvidia-ml-py": "pynvml",
}
WITH_AN_EXTRA = (
    "workers/engines/grammar/",
    "workers/engines/llama_cpp/",
    "workers/engines/templates/",  # of those two
    "workers/engines/vllm/",
    "workers/models/smollm2.py",
)


def declared() -> set[str]:
    """Modules of the base dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=\[; ]", one)[0] for one in project["dependencies"]]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def loaded() -> Iterator[tuple[str, str]]:
    """Module-level imports of what a bare machine loads: (file, top-level module)."""
    files = [*(ROOT / "workers").rglob("*.py"), *(ROOT / "protos").rglob("*.py"), ROOT / "router/cli/main.py"]
    for path in files:
        name = str(path.relative_to(ROOT))
        if name.startswith(WITH_AN_EXTRA):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                yield from ((name, one.name.split(".")[0]) for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield name, node.module.split(".")[0]


def test_a_bare_machine_has_what_its_commands_import() -> None:
    """``click`` came with another package once, and then no longer: ``allsorts --help`` was a traceback."""
    allowed = declared() | OWN | set(sys.stdlib_module_names)
    assert {one for one in loaded() if one[1] not in allowed} == set()
