"""A request whose model is being brought up: its stream begins at once, with comments that say how far that is.

Loading takes from a second to minutes, and clients and proxies give up on a connection that says nothing. Who answers,
which other streams tell in their headers, such a one tells in its last event.
"""

import asyncio
from collections.abc import Callable, Iterable

from router.domain.answer import AnswerHead
from router.http.dialects.answering import Answering
from router.http.dialects.dialect import Dialect
from router.http.server.exchange import Exchange

EVERY_S = 1.0
"""Between two signs; the first after so long: what comes sooner needs none."""

COMMENT = b":"
"""With which a line begins that clients of server-sent events leave out."""


async def head_with_signs(
    answering: Answering,
    exchange: Exchange,
    dialect: Dialect,
    *,
    headers: Iterable[tuple[bytes, bytes]],
    told: Callable[[], str],
    every_s: float = EVERY_S,
) -> AnswerHead:
    """As ``Answering.start``; ``told`` says what is waited for, in one line. Raises AllsortsError."""
    starting = asyncio.create_task(answering.start())
    try:
        while True:
            await asyncio.wait({starting}, timeout=every_s)
            if starting.done():
                return starting.result()
            text = told()
            if not exchange.started:
                if not text:
                    continue  # it does not come up: while nothing was sent, its error has a status of its own
                exchange.streaming = True
                await exchange.start(200, headers)
            await exchange.write(_sign(dialect.sign_of_life, text))
    finally:
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})


def _sign(sign_of_life: bytes, told: str) -> bytes:
    """A comment with words, where the dialect's sign is one."""
    if not told or not sign_of_life.startswith(COMMENT):
        return sign_of_life
    return COMMENT + b" " + told.encode("ascii", "replace") + b"\n\n"
