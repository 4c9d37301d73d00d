"""Coming to the head's version by itself, where the machine's owner allows it: ``allsorts upgrade``, now and then."""

import asyncio
import os
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

FIRST_S = 60.0
EVERY_S = 3600.0
POLL_S = 0.5


async def follow_head(
    command: list[str], said_in: Path, *, first_s: float = FIRST_S, every_s: float = EVERY_S, poll_s: float = POLL_S
) -> None:
    """Run ``command`` until cancelled; what the last run said stands in a file. A run that upgrades asks this very
    process to drain and to become the new version, and goes on without it: it is not ended with this task.
    """
    await asyncio.sleep(first_s)
    while True:
        try:
            process_id = _started(command, said_in)
        except OSError as error:
            log.warning("upgrade.failed", reason=str(error))
        else:
            while (ended := os.waitpid(process_id, os.WNOHANG)) == (0, 0):  # noqa: ASYNC110, ASYNC222 - does not block
                await asyncio.sleep(poll_s)
            status = os.waitstatus_to_exitcode(ended[1])
            log.info("upgrade.complete" if status == 0 else "upgrade.failed", status=status, said_in=str(said_in))
        await asyncio.sleep(every_s)


def _started(command: list[str], said_in: Path) -> int:
    """Its process id. Not a process of asyncio or subprocess: those end it, or warn, when their object goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(said_in), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions)
