"""What becomes of the router's Redis while it serves, on a pool with keys: it hangs, it forgets, it goes.

Nobody who streams may notice: keys that are known stay known, what replicas remember is given back.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import redis

from loadtest.attack.target import Attack, Pool, Target

PAUSE_S = 1.5
LOG_KB = 2048.0


async def _over_and_over(
    target: Target, what: str, once: Callable[[redis.Redis], object], every_s: float
) -> Counter[str]:
    """Orders to the server itself; those it does not hear any more are counted apart."""
    saw: Counter[str] = Counter()
    until = time.monotonic() + target.seconds

    def order() -> None:
        with redis.Redis.from_url(target.redis_url, socket_timeout=5.0) as client:
            once(client)

    while time.monotonic() < until:
        try:
            await asyncio.to_thread(order)
            saw[what] += 1
        except redis.RedisError:
            saw["not heard"] += 1
        await asyncio.sleep(max(0.0, min(every_s, until - time.monotonic())))
    return saw


async def _hangs(target: Target) -> dict[str, float]:
    """It takes connections and answers nobody, for a second and a half of every two."""
    return dict(
        await _over_and_over(target, "pauses", lambda on: on.client_pause(int(1000 * PAUSE_S), all=True), PAUSE_S + 0.5)
    )


async def _forgets(target: Target) -> dict[str, float]:
    """All it has is gone and every connection closed, twice a second."""

    def forget(on: redis.Redis) -> None:
        on.flushall()
        on.client_kill_filter(_type="normal", skipme=True)

    return dict(await _over_and_over(target, "times all was lost", forget, 0.5))


async def _goes(target: Target) -> dict[str, float]:
    """It is stopped, and stays away until the attack is over."""

    def stop(on: redis.Redis) -> None:
        on.shutdown(nosave=True)

    return dict(await _over_and_over(target, "times it was stopped", stop, 1.0))


def _happened(name: str) -> Callable[[dict[str, float]], list[str]]:
    """The attack was one."""
    return lambda saw: [] if saw.get(name) else [f"no {name}"]


STORE = (
    Attack(name="a Redis that hangs", run=_hangs, pool=Pool.STORED, log_kb=LOG_KB, after=_happened("pauses")),
    Attack(
        name="a Redis that forgets", run=_forgets, pool=Pool.STORED, log_kb=LOG_KB,
        after=_happened("times all was lost"),
    ),
    Attack(
        name="a Redis that goes", run=_goes, pool=Pool.STORED, log_kb=LOG_KB, quick=True,
        after=_happened("times it was stopped"),
    ),
)  # fmt: skip
