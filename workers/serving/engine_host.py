"""The engine that runs now and the reader of its steps; another one after it died."""

import contextlib
from collections.abc import Callable

import structlog

from workers.engines.base import Engine, EngineError, StepResult
from workers.engines.step_reader import StepReader

log = structlog.get_logger(__name__)


class EngineHost:
    """``make`` gives a new engine. There is one from ``start`` on."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._on_step: Callable[[StepResult], None]
        self._on_failed: Callable[[str], None]
        self.engine: Engine
        self.reader: StepReader

    def start(self, *, on_step: Callable[[StepResult], None], on_failed: Callable[[str], None]) -> None:
        """Make the engine and read its steps. ``on_failed`` is called once when it dies. Raises LoadError."""
        self._on_step, self._on_failed = on_step, on_failed
        self.engine = self._make()
        self.reader = StepReader(self.engine, self._on_failed)
        self.reader.add(self._on_step)
        self.reader.start()

    async def restart(self) -> None:
        """Another engine in the place of one that died. Raises LoadError."""
        log.info("engine.restart_started")
        await self.reader.stop()
        with contextlib.suppress(EngineError):
            await self.engine.close()
        self.start(on_step=self._on_step, on_failed=self._on_failed)

    async def close(self) -> None:
        """Stop reading, then the engine."""
        await self.reader.stop()
        await self.engine.close()
