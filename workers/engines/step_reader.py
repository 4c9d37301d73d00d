"""The one reader of an engine's steps; times each by the clock and hands the result to whoever listens."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import structlog

from protos.contract.worker import Load
from workers.engines.base import Engine, EngineFailed, StepResult
from workers.engines.step_clock import StepClock

log = structlog.get_logger(__name__)

Listener = Callable[[StepResult], None]


class StepReader:
    """Reads ``engine.steps()`` in one task. Listeners are called in the event loop and must not block."""

    def __init__(
        self, engine: Engine, on_failed: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._steps = StepClock()
        self._on_failed = on_failed
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._reported = False

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._read(), name=f"steps of {self._engine.kind}")

    @contextlib.contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Hear every result for the length of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def add(self, listener: Listener) -> None:
        """Hear every result from now on."""
        self._listeners.append(listener)

    def timed(self, load: Load) -> Load:
        """A load of the engine's, with its last step as the clock has it."""
        return self._steps.of(load)

    def fail(self, reason: str) -> None:
        """Report once that the engine is dead, whoever noticed."""
        if not self._reported:
            self._reported = True
            self._on_failed(reason)

    async def stop(self) -> None:
        """Stop reading; no failure is reported any more."""
        self._reported = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for told in self._engine.steps():
                result = self._steps.heard(told, self._clock())
                for listener in tuple(self._listeners):
                    listener(result)
        except EngineFailed as failed:
            self.fail(str(failed))
        except Exception as error:
            log.exception("engine.steps_failed")
            self.fail(f"{type(error).__name__}: {error}")
        else:
            self.fail("the engine stopped by itself")
