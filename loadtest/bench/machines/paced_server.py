"""A server that speaks OpenAI's API, takes so many requests at once and sends a token each 10 ms: as lean as can be.

Run as a process: prints its base URL, serves until its standard input closes.
"""

import argparse
import asyncio
import contextlib
import json
import sys

STEP_S = 0.01
MODEL = "paced"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class PacedServer:
    """Beyond ``slots`` the answer is 429."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").lower().split("\r\n")
                length = next((int(one[15:]) for one in lines if one.startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if lines[0].startswith("get /v1/models "):
                    listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]}
                    writer.write(_whole(200, listed))
                elif lines[0].startswith("post /v1/chat/completions "):
                    await self._answer(writer, int(json.loads(body).get("max_tokens") or 16))
                else:
                    writer.write(_whole(404, {"error": "no such path"}))
                await writer.drain()
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, tokens: int) -> None:
        if self._running >= self._slots:
            writer.write(_whole(429, {"error": "full"}))
            return
        self._running += 1
        try:
            writer.write(_HEAD)
            for number in range(tokens):
                await asyncio.sleep(STEP_S)
                writer.write(_event({"choices": [{"index": 0, "delta": {"content": f"w{number} "}}]}))
            writer.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}))
            usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
            writer.write(_event({"choices": [], "usage": usage}) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        finally:
            self._running -= 1


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(event: object) -> bytes:
    return _chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")


def _whole(status: int, body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(data),
        data,
    )


async def serve(slots: int) -> None:
    """Until standard input closes."""
    server = await asyncio.start_server(PacedServer(slots).connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=64)
    asyncio.run(serve(parser.parse_args().slots))


if __name__ == "__main__":
    main()
