"""A key's limits are one for all router replicas: how far they overshoot together."""

import asyncio

import pytest

from router.domain.clock import ManualClock
from router.domain.principal import Principal, Scope
from router.errors import RateLimited
from router.http.auth.authenticator import StoredAuthenticator
from router.state.api_keys import KeyRules, new_key
from router.state.backend import StoreFailed
from router.state.store import BackedStore
from tests.support.memory_backend import MemoryBackend
from tests.support.until import WITHIN_S

LIMIT = 10


class Replicas:
    """Several authenticators over one backend."""

    def __init__(self, count: int) -> None:
        self.clock = ManualClock()
        self.stores = [BackedStore(backend) for backend in [MemoryBackend()] * count]
        self.all = [
            StoredAuthenticator(store=store, clock=self.clock, host="127.0.0.1", shared=True, patience_s=WITHIN_S)
            for store in self.stores
        ]

    async def key(self, rules: KeyRules) -> str:
        secret, row = new_key(rules, key_id="k", now=0.0)
        await self.stores[0].add_key(row)
        return f"Bearer {secret}"


async def passes(replica: StoredAuthenticator, key: str) -> Principal | None:
    try:
        return await replica.authenticate(key, Scope.SERVE)
    except RateLimited:
        return None


async def settle(replicas: Replicas) -> None:
    await asyncio.gather(*(task for one in replicas.all for task in one._telling))


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_requests_one_after_the_other_are_counted_by_all_together(count: int) -> None:
    """Wherever each of them lands."""
    replicas = Replicas(count)
    key = await replicas.key(KeyRules(name="a", requests_per_minute=LIMIT))
    passed = 0
    for number in range(3 * LIMIT):
        passed += await passes(replicas.all[number % count], key) is not None
        await settle(replicas)
    assert passed == LIMIT


@pytest.mark.parametrize("count", [2, 4])
async def test_of_requests_at_once_each_replica_lets_one_too_many_pass_at_most(count: int) -> None:
    """A crowd at every replica in the same moment."""
    replicas = Replicas(count)
    key = await replicas.key(KeyRules(name="a", requests_per_minute=LIMIT))
    for _ in range(LIMIT - 1):
        await passes(replicas.all[0], key)
    await settle(replicas)
    crowd = [passes(replica, key) for replica in replicas.all for _ in range(5)]
    passed = sum(one is not None for one in await asyncio.gather(*crowd))
    await settle(replicas)
    assert 1 <= passed <= 1 + count


async def test_tokens_that_one_replica_reserved_are_not_there_for_the_other() -> None:
    """And what was not used is given back to both."""
    replicas = Replicas(2)
    one, other = replicas.all
    key = await replicas.key(KeyRules(name="a", tokens_per_minute=1000))
    principal = await passes(one, key)
    assert principal is not None
    reservation = one.reserve(principal, 900)
    await settle(replicas)
    assert await passes(other, key) is not None
    with pytest.raises(RateLimited):
        other.reserve(principal, 200)
    await settle(replicas)
    reservation.settle(100)
    assert await passes(one, key) is not None
    await settle(replicas)
    assert await passes(other, key) is not None
    other.reserve(principal, 200)
    await settle(replicas)


async def test_while_the_store_is_away_each_counts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go on; what was spent meanwhile is told when it is back."""
    replicas = Replicas(2)
    one, other = replicas.all
    key = await replicas.key(KeyRules(name="a", requests_per_minute=LIMIT))
    assert await passes(one, key) is not None
    await settle(replicas)

    async def away(*_: object) -> float:
        raise StoreFailed("redis: gone")

    with monkeypatch.context() as patched:
        patched.setattr(replicas.stores[0], "spend", away)
        passed = [await passes(one, key) for _ in range(LIMIT)]
        assert sum(one is not None for one in passed) == LIMIT - 1
        await settle(replicas)
    assert await passes(one, key) is None  # tells
    assert await passes(other, key) is None
