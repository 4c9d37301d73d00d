"""ASGI's lifespan: whoever serves the application starts it, and hears in one line why it does not start."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from router.errors import AllsortsError

log = structlog.get_logger()

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Step = Callable[[], Awaitable[None]]


async def lifespan(receive: Receive, send: Send, *, start: Step, stop: Step) -> None:
    """From startup to shutdown. ``start`` may raise AllsortsError or OSError: that is the answer, and the end."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except (AllsortsError, OSError) as error:
                log.error("router.not_started", reason=str(error))
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
