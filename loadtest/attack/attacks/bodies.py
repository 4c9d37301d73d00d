"""Bodies that cost more than they should: many values, half a letter at the end of megabytes, many at once, packed."""

import asyncio
import contextlib
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable

import aiohttp

from loadtest.attack.target import Attack, Run, Target

CLIENTS = 4
CROWD = 200
LARGE = 8_000_000


async def _post(target: Target, clients: int, body: bytes, path: str, headers: dict[str, str]) -> dict[str, float]:
    """As many as there are clients at once, over and over; how they were answered."""
    saw: Counter[str] = Counter()
    until = time.monotonic() + target.seconds
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)

    async def one(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < until:
            try:
                async with session.post(f"http://127.0.0.1:{target.port}{path}", data=body, headers=headers) as reply:
                    await reply.read()
                    saw[f"status {reply.status}"] += 1
            except (aiohttp.ClientError, TimeoutError, OSError):
                saw["no answer"] += 1
                await asyncio.sleep(0.1)

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(target.seconds + 1.0):
                await asyncio.gather(*(one(session) for _ in range(clients)))
    return dict(saw)


def _posting(
    body: Callable[[Target], bytes], *, clients: int = CLIENTS, path: str = "/v1/chat/completions", encoding: str = ""
) -> Run:
    headers = {"content-type": "application/json"} | ({"content-encoding": encoding} if encoding else {})

    async def run(target: Target) -> dict[str, float]:
        return await _post(target, clients, body(target), path, headers)

    return run


def _chat(target: Target, content: str, **more: object) -> bytes:
    asked = {"model": target.model, "max_tokens": 1, "messages": [{"role": "user", "content": content}], **more}
    return json.dumps(asked, ensure_ascii=False).encode()


def _numbers(target: Target) -> bytes:
    return b'{"model":"%b","max_tokens":1,"prompt":[' % target.model.encode() + b",".join([b"1"] * (LARGE // 2)) + b"]}"


def _half_a_pair(target: Target) -> bytes:
    return _chat(target, "HERE").replace(b"HERE", rb"\u0041" * (LARGE // 6 - 100) + rb"\ud800")


def _objects(target: Target) -> bytes:
    one = b'{"role":"user","content":"a"}'
    return b'{"model":"%b","messages":[' % target.model.encode() + b",".join([one] * (LARGE // 30)) + b"]}"


def _lists(target: Target) -> bytes:
    return b'{"model":"%b","prompt":[' % target.model.encode() + b",".join([b"[]"] * (LARGE // 3)) + b"]}"


def _text(target: Target) -> bytes:
    return _chat(target, "word " * (LARGE // 5 - 100))


def _packed(_: Target) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(b" " * (200 * 1024 * 1024)) + packer.flush()


BODIES = (
    Attack(name="lists of token ids", run=_posting(_numbers, path="/v1/completions"), quick=True),
    Attack(name="half a surrogate pair", run=_posting(_half_a_pair)),
    Attack(name="many messages", run=_posting(_objects)),
    Attack(name="lists of lists", run=_posting(_lists, path="/v1/completions")),
    Attack(name="200 bodies of 8 MB", run=_posting(_text, clients=CROWD)),
    Attack(name="packed bodies", run=_posting(_packed, clients=16, encoding="gzip"), quick=True),
)
