"""A network between a worker and the router whose connections break, all at once, after so many bytes have passed."""

import asyncio
import contextlib
from typing import Self


class CuttingProxy:
    """Forwards TCP on loopback to ``target_port``; at each of ``cuts`` (bytes to the worker, in all) it breaks every
    connection there is. New ones pass again. It listens at ``host`` and ``port`` (0: any).
    """

    def __init__(self, target_port: int, *cuts: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self._target_port = target_port
        self._cuts = sorted(cuts)
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.passed = 0
        self.times_cut = 0
        self._host = host
        self.port = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection now."""
        for task in tuple(self._pumps):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, far_writer, counts=False))
                    group.create_task(self._pump(far_reader, writer, counts=True))
            finally:
                far_writer.transport.abort()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(task)
            with contextlib.suppress(OSError):
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
            if counts:
                self.passed += len(data)
                if self._cuts and self.passed >= self._cuts[0]:
                    self._cuts.pop(0)
                    self.times_cut += 1
                    self.cut()
        with contextlib.suppress(OSError):
            writer.write_eof()
