"""A network between two processes of this machine: what goes in comes out a while later, either way."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

CHUNK_BYTES = 64 * 1024


@contextlib.contextmanager
def far_away(port: int, rtt_s: float) -> Iterator[int]:
    """The port at which ``port`` is reached with an added round trip of ``rtt_s``."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="network", daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_listen(port, rtt_s / 2.0), loop).result(10.0)
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _listen(port: int, delay_s: float) -> asyncio.Server:
    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):  # the network ends
            await asyncio.gather(_carry(reader, back, delay_s), _carry(there, writer, delay_s), return_exceptions=True)

    return await asyncio.start_server(between, "127.0.0.1", 0)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """In order, each piece ``delay_s`` after it came."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)

    async def deliver() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while data := await reader.read(CHUNK_BYTES):
            await under_way.put((time.monotonic() + delay_s, data))
    finally:
        await under_way.put((time.monotonic() + delay_s, b""))
        with contextlib.suppress(OSError):
            await delivering


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
