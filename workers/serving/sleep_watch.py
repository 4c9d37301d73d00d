"""Sleep and waking: announced before, so that streams move first; noticed after, so that the worker is back at once."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from workers.owner.sleep import slept_s
from workers.serving.availability import Availability
from workers.session.session_pool import SessionPool

log = structlog.get_logger(__name__)

FLUSH_S = 2.0
"""How long a sleep is held up until routers have taken what they were told; systems give 5 seconds and more."""

TICK_S = 1.0
SLEPT_S = 2.0
"""Clocks that moved apart by so much between two ticks: the machine slept."""

AGAIN_S = 30.0
"""After a program that announces sleep has ended by itself."""


class SleepWatch:
    """``program`` says ``sleep`` and ``wake`` and waits for a line before it lets the machine sleep; empty: nobody
    announces anything, and only waking is noticed.
    """

    def __init__(
        self,
        availability: Availability,
        sessions: SessionPool,
        program: tuple[str, ...],
        *,
        slept_s: Callable[[], float] = slept_s,
        tick_s: float = TICK_S,
    ) -> None:
        self._availability = availability
        self._sessions = sessions
        self._program = program
        self._slept_s = slept_s
        self._tick_s = tick_s

    async def follow(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wakes(), name="wakes")
            if self._program:
                tasks.create_task(self._announcements(), name="announcements of sleep")

    async def _wakes(self) -> None:
        known = self._slept_s()
        while True:
            await asyncio.sleep(self._tick_s)
            now = self._slept_s()
            if now - known > SLEPT_S:
                log.info("machine.awake", slept_s=round(now - known))
                self._sessions.redial(f"this machine slept for {now - known:.0f} s")
                self._availability.wake()
            known = now

    async def _announcements(self) -> None:
        while True:
            try:
                await self._hear()
            except OSError as error:
                log.warning("sleep.not_announced", reason=str(error))
            await asyncio.sleep(AGAIN_S)

    async def _hear(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._program, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                if line.strip() == b"sleep":
                    log.info("machine.sleeps")
                    self._availability.sleep()
                    await self._sessions.flushed(FLUSH_S)
                    process.stdin.write(b"moved\n")
                elif line.strip() == b"wake":
                    self._availability.wake()
        finally:
            process.stdin.close()  # the program ends with it, and takes its own with it
            with contextlib.suppress(TimeoutError, ProcessLookupError):
                async with asyncio.timeout(FLUSH_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
