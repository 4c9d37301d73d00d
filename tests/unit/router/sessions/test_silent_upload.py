"""An upload that says nothing ends: a stream that is open holds memory and a place among those of its connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from router.domain.clock import SystemClock
from router.sessions import files
from router.sessions.files import FilesService


async def silent() -> AsyncIterator[pb.FileChunk]:
    """Never a chunk, never the end."""
    await asyncio.Event().wait()
    yield pb.FileChunk()


async def test_an_upload_of_which_nothing_comes_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first chunk is awaited like every other."""
    monkeypatch.setattr(files, "SILENT_S", 0.01)
    nobody: Any = None
    service = FilesService(membership=nobody, authorizer=nobody, clock=SystemClock())
    async with asyncio.timeout(60):
        reply = await service.Upload(silent(), context=nobody)
    assert reply.ended == "nothing came for 0.01 s"
