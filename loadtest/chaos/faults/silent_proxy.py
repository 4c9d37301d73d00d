"""A network between a worker and the router that can go silent: nothing passes, and no side is told."""

import asyncio
import contextlib

CHUNK_BYTES = 65_536


class SilentProxy:
    """Forwards TCP on loopback. After ``cut`` it takes whatever comes and passes nothing on, until ``heal``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._pumps):
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """From now on every byte is lost."""
        self._open.clear()

    def heal(self) -> None:
        """New connections pass again; those that lost bytes are closed."""
        self._open.set()
        for task in tuple(self._pumps):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            if not self._open.is_set():
                await self._open.wait()  # a connection that hangs, as one whose packets are dropped
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, far_writer))
                    group.create_task(self._pump(far_reader, writer))
            finally:
                far_writer.close()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(task)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._open.is_set():
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
