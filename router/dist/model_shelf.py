"""The head's own folder of models: what the pool's machines may have from here. A folder of files, and nothing else."""

import asyncio
import time
from pathlib import Path

import platformdirs
import structlog

from protos.contract.files.hashing import HashCache
from protos.contract.files.library import ModelLibrary

log = structlog.get_logger()

LOOK_EVERY_S = 15.0


def model_shelf(models_dir: str, state_dir: str) -> ModelLibrary:
    """As configured, else beside the router's state where that is a folder, else at the system's place."""
    own = "" if state_dir.startswith(("redis://", "rediss://")) else state_dir
    state = Path(own or platformdirs.user_data_dir("allsorts")).expanduser()
    folder = Path(models_dir).expanduser() if models_dir else state / "models"
    return ModelLibrary(folder, HashCache(state / "model-hashes.json"))


async def watch(shelf: ModelLibrary, every_s: float = LOOK_EVERY_S) -> None:
    """Look again and again, until cancelled; what is new is read in a thread."""
    told: set[str] = set()
    try:
        while True:
            before, began = shelf.held, time.monotonic()
            for problem in await asyncio.to_thread(shelf.look):
                if problem not in told:
                    told.add(problem)
                    log.warning("model_shelf.skipped", reason=problem)
            if shelf.held != before:
                log.info("model_shelf.read", models=len(shelf.held), seconds=round(time.monotonic() - began, 1))
            await asyncio.sleep(every_s)
    finally:
        shelf.stop()
