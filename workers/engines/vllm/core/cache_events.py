"""Listens to the KV-cache events that vLLM's core publishes, and keeps a ``CacheMirror`` up to date."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from zmq import constants
from zmq.asyncio import Context

from workers.engines.vllm.core.cache_mirror import CacheMirror

log = structlog.get_logger(__name__)


class CacheEvents:
    """One subscription; ``after`` is called when something changed."""

    def __init__(self, endpoint: str, mirror: CacheMirror, after: Callable[[], None]) -> None:
        from vllm.distributed.kv_events import KVEventBatch

        self._mirror = mirror
        self._after = after
        self._decoder: Any = msgspec.msgpack.Decoder(type=KVEventBatch)
        self._context = Context()
        self._socket = self._context.socket(constants.SUB)
        self._socket.setsockopt(constants.LINGER, 0)
        self._socket.connect(endpoint)
        self._socket.subscribe(b"")
        self._next = 0
        self._task = asyncio.create_task(self._listen(), name="vllm cache events")

    async def _listen(self) -> None:
        while True:
            *_, number, payload = await self._socket.recv_multipart()
            came = int.from_bytes(number, "big")
            if came != self._next and self._next:
                log.warning("vLLM's cache events have a gap; what it holds is learned anew", missed=came - self._next)
                self._mirror.cleared()
            self._next = came + 1
            try:
                batch = self._decoder.decode(payload)
            except msgspec.MsgspecError as error:
                log.warning("a cache event of vLLM cannot be read", reason=str(error))
                continue
            for event in batch.events:
                self._take(event)
            self._after()

    def _take(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "BlockStored":
            self._mirror.stored(event.block_hashes, event.parent_block_hash, event.token_ids)
        elif kind == "BlockRemoved":
            self._mirror.removed(event.block_hashes)
        else:
            self._mirror.cleared()

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()
        self._context.term()
