"""The writing half of a session: commands become messages, large ones beside the event loop, and none is cut in two."""

import asyncio
import contextlib
from typing import Any

from protos.contract.codec.commands import add_following, encode_command
from protos.contract.commands import Generate, RouterCommand
from router.sessions.session import WorkerSession

LARGE_PROMPT = 256 * 1024
"""Letters. A longer one is put into its message beside the event loop."""

LAST_WRITE_S = 1.0


async def write(session: WorkerSession, context: Any, writing: asyncio.Lock) -> None:
    """Every command of the session, in order, for as long as it lasts; ``writing`` is held while one goes out."""
    while True:
        for sequence, command in await session.next_commands():
            if not _small(command):  # copying megabytes several times over is no work for the loop
                message = await asyncio.to_thread(encode_command, command, sequence)
            else:
                message = encode_command(command, sequence)
            if session.joins:
                add_following(message, session.taken_while(_small))
            async with writing:
                await context.write(message)


def _small(command: RouterCommand) -> bool:
    if not isinstance(command, Generate):
        return True
    job = command.job
    return len(job.prompt) + sum(len(message.content) for message in job.messages) <= LARGE_PROMPT


async def let_finish(writing: asyncio.Lock) -> None:
    """Wait for a write under way, and let none begin: gRPC cannot end a call in the middle of one, and would leave
    the peer waiting for ever.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WRITE_S):
            await writing.acquire()


async def flush_last_words(writer: asyncio.Task[None]) -> None:
    """Give a dismissal a moment to reach the worker before the stream closes."""
    await asyncio.wait({writer}, timeout=0.2)
