"""What a read through the router that is refused means: final, or worth another try."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from protos.allsorts.v1.fleet_pb2_grpc import FilesServicer, add_FilesServicer_to_server
from protos.contract.codec.files import CHUNK_BYTES
from protos.contract.files.content import FilePart
from workers.models.sources import SourceBroke, SourceRefused
from workers.session.pool_files import PoolSource

PART = FilePart(name="m.gguf", size_bytes=3 * CHUNK_BYTES, sha256="a" * 64)


class _Refuses(FilesServicer):
    """Every read with ``code``."""

    code = grpc.StatusCode.NOT_FOUND

    async def Fetch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # noqa: N802
        """As the router does where it has no holder."""
        await context.abort(self.code, "nobody in the pool has the file")
        yield


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[_Refuses, PoolSource]]:
    files, server = _Refuses(), grpc.aio.server()
    add_FilesServicer_to_server(files, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield files, PoolSource(lambda: [f"127.0.0.1:{port}"], None)
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("code", "offset", "avoid", "raised"),
    [
        (grpc.StatusCode.NOT_FOUND, 0, (), SourceRefused),
        (grpc.StatusCode.NOT_FOUND, CHUNK_BYTES, (), SourceBroke),  # its holder was there a moment ago
        (grpc.StatusCode.NOT_FOUND, CHUNK_BYTES, ("a",), SourceRefused),  # every copy is damaged
        (grpc.StatusCode.PERMISSION_DENIED, CHUNK_BYTES, (), SourceRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, CHUNK_BYTES, (), SourceRefused),
        (grpc.StatusCode.UNAVAILABLE, 0, (), SourceBroke),
    ],
)
async def test_a_refusal_is_final_unless_a_part_has_come(
    refusing: tuple[_Refuses, PoolSource],
    code: grpc.StatusCode,
    offset: int,
    avoid: tuple[str, ...],
    raised: type[Exception],
) -> None:
    """A cut that ends a read may end the holder's session too."""
    files, source = refusing
    files.code = code
    with pytest.raises(raised, match="nobody in the pool has the file"):
        async for _ in source.read(PART, offset, frozenset(avoid)):
            pass
