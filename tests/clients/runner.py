"""Runs one client's features, in the client's own environment: ``python -m tests.clients.runner CLIENT URL OUT``."""

import importlib
import inspect
import sys
import traceback
from pathlib import Path

from tests.clients.table import Cannot, Row, append_row


def main(name: str, url: str, out: Path) -> None:
    """Every public function of the client's module is a feature."""
    module = importlib.import_module(f"tests.clients.cases.{name}")
    for feature, function in vars(module).items():
        if feature.startswith("_") or not inspect.isfunction(function) or function.__module__ != module.__name__:
            continue
        verdict, detail = "ok", ""
        try:
            function(url)
        except Cannot as reason:
            verdict = f"cannot: {reason}"
        except Exception as error:  # noqa: BLE001 - a cell that failed must not hide the others
            verdict = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            detail = traceback.format_exc()[-1500:]
        append_row(out, Row(client=name, feature=feature, verdict=verdict, detail=detail))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
