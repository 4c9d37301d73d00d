"""``allsorts worker`` whose engine thread dies when a file appears: its next step raises, and the file is gone."""

import os
from pathlib import Path

from workers.cli.alone import run_alone
from workers.cli.worker import worker
from workers.engines.base import StepResult
from workers.engines.llama_cpp.batch.batching import Batching

BREAK = Path(os.environ.get("BREAK_ENGINE_WHEN", "/nonexistent"))
_step = Batching.step


def step(self: Batching) -> StepResult:
    """As the engine does it, unless it is to die now."""
    if BREAK.exists():
        BREAK.unlink()
        raise RuntimeError("the cable was pulled")
    return _step(self)


if __name__ == "__main__":
    Batching.step = step  # type: ignore[method-assign]
    run_alone(worker)
