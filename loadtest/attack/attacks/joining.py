"""At the port where machines join, with keys, and with certificates that are good no longer. On a pool with TLS."""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from loadtest.attack.attacks.sockets import Crowd, until_closed
from loadtest.attack.target import Attack, Pool, Target
from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from workers.joining.join import Joined, join_fleet, renew
from workers.joining.pinning import NotTheRouter, Unreachable
from workers.session.enrolment import EnrolFailed

HANDSHAKES = 1000
AT_ONCE = 30
TOKENS_PER_MINUTE = 1000
ANSWER_TOKENS = 50
CLIENT_HELLO = bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + bytes(32)
"""The first bytes of a TLS handshake that announces 512 more."""


async def _slow(target: Target) -> dict[str, float]:
    """A handshake byte by byte."""

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.create_task(until_closed(reader))
        try:
            for byte in CLIENT_HELLO + bytes(480):
                if closed.done():
                    return
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.wait({closed}, timeout=0.5)
            await closed
        finally:
            closed.cancel()

    return await Crowd(target.enrol_port, HANDSHAKES, feed).attack(target.seconds)


async def _half(target: Target) -> dict[str, float]:
    """Half a handshake, and then nothing."""

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CLIENT_HELLO)
        await until_closed(reader)

    return await Crowd(target.enrol_port, HANDSHAKES, feed).attack(target.seconds)


class Operator:
    """What the attacker has of the pool's operator: tokens, keys and a revocation, to then misuse them."""

    def __init__(self, target: Target) -> None:
        self._url = f"http://127.0.0.1:{target.port}"
        self._headers = {"authorization": f"Bearer {target.key}"}

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """One order."""
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.post(self._url + path, json=body) as reply,
        ):
            if reply.status != 200:
                raise RuntimeError(f"{path}: {reply.status}: {(await reply.text())[:300]}")
            return dict(await reply.json())

    async def token(self) -> str:
        """For one machine."""
        return str((await self.post("/admin/tokens", ttl_s=600, uses=1))["token"])


async def _join(target: Target, token: str | None, folder: Path, node: str) -> Joined:
    profile = Profile(node=node, hardware=Hardware(kind="simulated", name="simulated"), engine="simulated")
    return await join_fleet(f"127.0.0.1:{target.enrol_port}", parse_token(token) if token else None, profile, folder)


async def _tried(saw: Counter[str], join: Awaitable[object]) -> None:
    try:
        await join
        saw["let in"] += 1
    except EnrolFailed:
        saw["refused"] += 1
    except (NotTheRouter, Unreachable, OSError, TimeoutError):
        saw["no answer"] += 1


async def _over_and_over(target: Target, one: Callable[[int, int], Awaitable[None]], clients: int) -> None:
    """``one`` gets the number of the client and of its try."""
    until = time.monotonic() + target.seconds

    async def client(number: int) -> None:
        tries = 0
        while time.monotonic() < until:
            await one(number, tries)
            tries += 1

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(target.seconds + 5.0):
            await asyncio.gather(*(client(number) for number in range(clients)))


async def _bad_tokens(target: Target) -> dict[str, float]:
    saw: Counter[str] = Counter()
    token = await Operator(target).token()
    with tempfile.TemporaryDirectory() as folder:

        async def one(number: int, tries: int) -> None:
            wrong = f"{token[:-6]}{tries % 10**6:06d}"
            await _tried(saw, _join(target, wrong, Path(folder) / str(number), f"bad-{number}"))

        await _over_and_over(target, one, 16)
    return dict(saw)


async def _one_token_many_keys(target: Target) -> dict[str, float]:
    saw: Counter[str] = Counter()
    operator = Operator(target)
    with tempfile.TemporaryDirectory() as folder:

        async def one(_: int, tries: int) -> None:
            token = await operator.token()
            joins = (_join(target, token, Path(folder) / f"{tries}-{n}", f"many-{n}") for n in range(AT_ONCE))
            await asyncio.gather(*(_tried(saw, join) for join in joins))
            saw["tokens"] += 1

        await _over_and_over(target, one, 1)
    return dict(saw)


def _one_each(saw: dict[str, float]) -> list[str]:
    let_in, tokens = saw.get("let in", 0.0), saw.get("tokens", 0.0)
    found = [f"{let_in:.0f} machines came in by {tokens + 1:.0f} tokens"] if let_in > tokens + 1 else []
    return found if let_in else [*found, "nobody came in at all"]


async def _revoked(target: Target) -> dict[str, float]:
    """By its certificate, by its key, and by a fresh token."""
    saw: Counter[str] = Counter()
    operator = Operator(target)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        node = f"revoked-{time.time_ns()}"
        joined = await _join(target, await operator.token(), folder, node)
        await operator.post("/admin/revoke", node=joined.membership.worker_id, reason="an attack")
        token = await operator.token()

        async def one(number: int, _: int) -> None:
            ways = (renew(joined.files), _join(target, None, folder, node), _join(target, token, folder, node))
            for chosen, way in enumerate(ways):
                if chosen == number % len(ways):
                    await _tried(saw, way)
                else:
                    way.close()

        await _over_and_over(target, one, 12)
    return dict(saw)


def _never(saw: dict[str, float]) -> list[str]:
    found = [f"let in {saw['let in']:.0f} times"] if saw.get("let in") else []
    return found if saw.get("refused") else [*found, "nobody was refused"]


async def _tokens_per_minute(target: Target) -> dict[str, float]:
    saw: Counter[str] = Counter()
    made = await Operator(target).post("/admin/keys", name="limited", tokens_per_minute=TOKENS_PER_MINUTE)
    headers = {"authorization": f"Bearer {made['key']}"}
    body = {"model": target.model, "max_tokens": ANSWER_TOKENS, "ignore_eos": True,
            "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def one(_number: int, _tries: int) -> None:
            url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(url, json=body) as reply:
                    saw[f"status {reply.status}"] += 1
                    if reply.status == 200:
                        saw["tokens"] += (await reply.json())["usage"]["total_tokens"]

        await _over_and_over(target, one, 100)
    return {**saw, "allowed": TOKENS_PER_MINUTE * (1 + target.seconds / 60)}


def _within_the_limit(saw: dict[str, float]) -> list[str]:
    used, allowed = saw.get("tokens", 0.0), saw.get("allowed", 0.0) + ANSWER_TOKENS
    if not used:
        return ["the key got no answer"]
    return [f"a key of {TOKENS_PER_MINUTE} tokens a minute got {used:.0f}"] if used > allowed else []


JOINING = (
    Attack(name="handshakes byte by byte", run=_slow, pool=Pool.GUARDED),
    Attack(name="half handshakes", run=_half, pool=Pool.GUARDED),
    Attack(name="bad join tokens", run=_bad_tokens, after=_never, pool=Pool.GUARDED, quick=True),
    Attack(name="one token, 30 keys at once", run=_one_token_many_keys, after=_one_each, pool=Pool.GUARDED),
    Attack(name="a revoked machine, over and over", run=_revoked, after=_never, pool=Pool.GUARDED),
    Attack(name="tokens a minute, 100 at once", run=_tokens_per_minute, after=_within_the_limit, pool=Pool.GUARDED),
)
