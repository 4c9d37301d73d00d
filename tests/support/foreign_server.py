"""Servers that already run, as they are found: one that answers what a test says, and streams with every oddity."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """One event of a chat's stream."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def said(*words: str) -> list[dict[str, Any]]:
    return [chunk({"content": word}) for word in words]


def thought(name: str, *words: str) -> list[dict[str, Any]]:
    return [chunk({"content": None, name: word}) for word in words]


STOP = chunk(finish="stop")
COUNTED = {"choices": [], "usage": USAGE}


def event(data: Any, name: str = "") -> bytes:
    """As it goes over the wire."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def stream(*events: Any, done: bool = True) -> bytes:
    return b"".join(map(event, events)) + (b"data: [DONE]\n\n" if done else b"")


@contextlib.asynccontextmanager
async def foreign_server(
    routes: Mapping[str, Handler | Any], *, models: tuple[str, ...] = ("m",)
) -> AsyncIterator[str]:
    """Its base URL. ``routes``: by method and path, a handler, or JSON to answer with; anything else is 404."""

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": one, "object": "model"} for one in models]})

    async def answer(request: web.Request) -> web.StreamResponse:
        known = routes.get(f"{request.method} {request.path}", listed if request.path == "/v1/models" else None)
        if known is None:
            return web.json_response({"error": "no such path"}, status=404)
        return await known(request) if callable(known) else web.json_response(known)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


def streaming(
    *parts: bytes, content_type: str = "text/event-stream", status: int = 200, pause_s: float = 0.0, cut: bool = False
) -> Handler:
    """A handler that sends these parts, and breaks the connection off after them when told to."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(status=status, headers={"content-type": content_type})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause_s)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return handler
