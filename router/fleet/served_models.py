"""What the pool served before this router started, kept in the store.

A router that has just started knows no worker yet. Of a model that its pool served a moment ago it must not say that
there is no such model. The request waits for a worker to come back, as it would had all of them left.
"""

import asyncio

import msgspec
import structlog

from router.fleet.membership import Membership
from router.state.backend import StoreFailed
from router.state.store import Store

log = structlog.get_logger()

FACT = "models.served"
INTERVAL_S = 1.0
"""How long a model may be served before that is on disk."""


async def recall_models(store: Store, membership: Membership) -> None:
    """Expect what was served when the last router wrote it down."""
    kept = await store.recall(FACT)
    if kept is not None:
        membership.expect_models(msgspec.json.decode(kept, type=list[str]))


async def keep_models(store: Store, membership: Membership, interval_s: float = INTERVAL_S) -> None:
    """Write down what is served whenever it changes, until cancelled. A store that is away is asked again."""
    kept: tuple[str, ...] | None = None
    while True:
        served = membership.served_models()
        if served != kept:
            try:
                await store.remember(FACT, msgspec.json.encode(served).decode())
                kept = served
            except StoreFailed as error:
                log.warning("models.not_kept", reason=str(error))
        await asyncio.sleep(interval_s)
