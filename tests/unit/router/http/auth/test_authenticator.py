"""API keys: who gets in, what they may do, how often."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.domain.clock import ManualClock
from router.domain.principal import LOCAL, Scope
from router.errors import ConfigError, InvalidRequest, NotAllowed, NotAuthenticated, RateLimited, Unavailable
from router.http.auth.authenticator import StoredAuthenticator, refuse_exposed_without_keys
from router.http.server.errors import error_headers
from router.state.backend import StoreFailed
from router.state.store import BackedStore
from router.trust.credentials import StoredCredentials
from tests.support.memory_backend import MemoryBackend
from tests.support.until import WITHIN_S


class Rig:
    def __init__(self, host: str = "127.0.0.1") -> None:
        self.clock = ManualClock()
        self.store = BackedStore(MemoryBackend())
        self.credentials = StoredCredentials(
            store=self.store, clock=self.clock, fingerprint=None, enrol_address=lambda: ""
        )
        self.auth = StoredAuthenticator(store=self.store, clock=self.clock, host=host, patience_s=WITHIN_S)

    async def key(self, **rules: Any) -> str:
        made = await self.credentials.create_key({"name": "alice", **rules})
        self.clock.advance(1.5)  # the time after which a key made elsewhere counts
        return f"Bearer {made['key']}"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.store.close()


async def test_without_keys_the_local_user_may_everything(rig: Rig) -> None:
    """Open by default, on loopback."""
    for scope in Scope:
        assert await rig.auth.authenticate(None, scope) is LOCAL


async def test_with_a_key_everyone_needs_one(rig: Rig) -> None:
    """The first key closes the door, also on loopback."""
    key = await rig.key()
    assert (await rig.auth.authenticate(key, Scope.SERVE)).tenant == "alice"
    for wrong in (None, "", "Bearer", "Bearer ", "Basic abc", key[:-1], key + "x", "Bearer " + "x" * 5000):
        with pytest.raises(NotAuthenticated) as refusal:
            await rig.auth.authenticate(wrong, Scope.SERVE)
        assert "sk-as" not in refusal.value.message


async def test_the_first_keys_holder_comes_under_its_rules_at_once(rig: Rig) -> None:
    """The router still believes there are no keys: it is not taken for the local user, whose prompts go anywhere."""
    assert await rig.auth.authenticate(None, Scope.SERVE) is LOCAL
    made = await rig.credentials.create_key({"name": "clinic", "labels": {"site": "clinic"}})
    principal = await rig.auth.authenticate(f"Bearer {made['key']}", Scope.SERVE)
    assert principal.required_labels == (("site", "clinic"),)


async def test_the_last_key_that_goes_opens_nothing(rig: Rig) -> None:
    """Deleted, or gone with its store: with it went whoever could say that everybody may come in."""
    key = await rig.key(scopes=["serve", "observe", "admin"])
    await rig.auth.authenticate(key, Scope.ADMIN)
    (one,) = await rig.store.keys()
    await rig.store.delete_key(one.key_id)
    rig.clock.advance(2.0)
    for given in (key, None, "Bearer sk-as-guess"):
        with pytest.raises(NotAuthenticated, match="stays closed: make one"):
            await rig.auth.authenticate(given, Scope.ADMIN)
    again = await rig.key()
    assert (await rig.auth.authenticate(again, Scope.SERVE)).tenant == "alice"


async def test_unknown_keys_do_not_wear_the_store_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking a key up anew is worth it once; whoever guesses must not cause a read each time."""
    await rig.key()
    reads = 0
    read = rig.store.keys

    async def counted() -> Any:
        nonlocal reads
        reads += 1
        return await read()

    monkeypatch.setattr(rig.store, "keys", counted)
    for guess in range(200):
        with pytest.raises(NotAuthenticated):
            await rig.auth.authenticate(f"Bearer sk-as-{guess}", Scope.SERVE)
        rig.clock.advance(0.001)
    assert reads <= 11


async def test_beyond_loopback_nobody_gets_in_without_a_key() -> None:
    """Even if the last key was deleted while the router ran."""
    rig = Rig(host="0.0.0.0")
    with pytest.raises(ConfigError, match="without API keys"):
        await refuse_exposed_without_keys(rig.store, "0.0.0.0")
    await refuse_exposed_without_keys(rig.store, "127.0.0.1")
    with pytest.raises(NotAuthenticated):
        await rig.auth.authenticate(None, Scope.SERVE)
    await rig.key()
    await refuse_exposed_without_keys(rig.store, "0.0.0.0")
    await rig.store.close()


async def test_no_answer_comes_from_keys_not_read_yet(rig: Rig) -> None:
    """Requests that arrive together right after the start wait for the first read."""
    await rig.key()
    answers = await asyncio.gather(
        *(rig.auth.authenticate(None, Scope.SERVE) for _ in range(20)), return_exceptions=True
    )
    assert all(isinstance(one, NotAuthenticated) for one in answers)


async def test_scopes_are_kept_apart(rig: Rig) -> None:
    """403 names the scope that is missing."""
    key = await rig.key(scopes=["serve", "observe"])
    await rig.auth.authenticate(key, Scope.OBSERVE)
    with pytest.raises(NotAllowed, match="lacks the scope 'admin'"):
        await rig.auth.authenticate(key, Scope.ADMIN)


async def test_requests_per_minute_are_limited_and_told_in_headers(rig: Rig) -> None:
    """The bucket refills steadily; the refusal says when to come back."""
    key = await rig.key(requests_per_minute=6)
    for left in (5, 4, 3, 2, 1, 0):
        principal = await rig.auth.authenticate(key, Scope.SERVE)
        headers = dict(rig.auth.rate_headers(principal))
        assert headers[b"x-ratelimit-remaining-requests"] == b"%d" % left
    assert headers[b"x-ratelimit-limit-requests"] == b"6"
    assert headers[b"x-ratelimit-reset-requests"] == b"1m0s"
    with pytest.raises(RateLimited) as refusal:
        await rig.auth.authenticate(key, Scope.SERVE)
    assert refusal.value.retry_after_s == pytest.approx(10.0)
    told = dict(error_headers(refusal.value))
    assert told[b"retry-after"] == b"10"
    assert told[b"x-ratelimit-limit-requests"] == b"6"
    assert told[b"x-ratelimit-remaining-requests"] == b"0"
    rig.clock.advance(10.0)
    await rig.auth.authenticate(key, Scope.SERVE)
    with pytest.raises(RateLimited):
        await rig.auth.authenticate(key, Scope.SERVE)


@pytest.mark.parametrize(("limit", "each", "passes"), [(100, 100, 1), (100, 30, 3), (100, 1000, 1), (600, 6, 100)])
async def test_many_requests_at_once_get_no_more_tokens_than_one_after_the_other(
    rig: Rig, limit: int, each: int, passes: int
) -> None:
    """What each is expected to use is taken before it begins: a key of 100 once got 30,000."""
    key = await rig.key(tokens_per_minute=limit)
    principals = [await rig.auth.authenticate(key, Scope.SERVE) for _ in range(120)]
    through = 0
    for principal in principals:
        with contextlib.suppress(RateLimited):
            rig.auth.reserve(principal, each)
            through += 1
    assert through == passes


async def test_what_was_expected_and_not_used_is_given_back(rig: Rig) -> None:
    """At the end of the request, once."""
    key = await rig.key(tokens_per_minute=600)
    principal = await rig.auth.authenticate(key, Scope.SERVE)
    reservation = rig.auth.reserve(principal, 500)
    with pytest.raises(RateLimited, match="tokens per minute"):
        rig.auth.reserve(principal, 101)
    reservation.settle(20)
    reservation.settle(20)
    assert dict(rig.auth.rate_headers(principal))[b"x-ratelimit-remaining-tokens"] == b"580"
    rig.auth.reserve(principal, 580)


async def test_tokens_are_charged_afterwards_and_a_debt_is_waited_for(rig: Rig) -> None:
    """A long answer may overdraw; the next request waits until the budget is positive again."""
    key = await rig.key(tokens_per_minute=600)
    principal = await rig.auth.authenticate(key, Scope.SERVE)
    rig.auth.reserve(principal, 10).settle(900)
    assert dict(rig.auth.rate_headers(principal))[b"x-ratelimit-remaining-tokens"] == b"0"
    with pytest.raises(RateLimited, match="tokens per minute"):
        await rig.auth.authenticate(key, Scope.SERVE)
    rig.clock.advance(30.0)
    with pytest.raises(RateLimited):
        await rig.auth.authenticate(key, Scope.SERVE)
    rig.clock.advance(1.0)
    await rig.auth.authenticate(key, Scope.SERVE)


async def test_a_workers_absurd_count_does_not_lock_a_key_out_for_years(rig: Rig) -> None:
    """Workers count tokens; the longest debt is an hour's."""
    key = await rig.key(tokens_per_minute=600)
    principal = await rig.auth.authenticate(key, Scope.SERVE)
    rig.auth.reserve(principal, 10).settle(2**32)
    with pytest.raises(RateLimited) as refusal:
        await rig.auth.authenticate(key, Scope.SERVE)
    assert refusal.value.retry_after_s == pytest.approx(3600, abs=1)


async def test_observing_costs_no_request(rig: Rig) -> None:
    """Limits are for serving."""
    key = await rig.key(scopes=["serve", "observe"], requests_per_minute=1)
    for _ in range(5):
        await rig.auth.authenticate(key, Scope.OBSERVE)
    await rig.auth.authenticate(key, Scope.SERVE)
    with pytest.raises(RateLimited):
        await rig.auth.authenticate(key, Scope.SERVE)


async def test_what_is_not_counted_passes_a_spent_limit(rig: Rig) -> None:
    """The list of models is asked for by clients on their own accord; it generates nothing."""
    key = await rig.key(requests_per_minute=1)
    for _ in range(5):
        await rig.auth.authenticate(key, Scope.SERVE, counted=False)
    await rig.auth.authenticate(key, Scope.SERVE)
    await rig.auth.authenticate(key, Scope.SERVE, counted=False)
    with pytest.raises(RateLimited):
        await rig.auth.authenticate(key, Scope.SERVE)


async def test_without_limits_the_pools_room_is_told(rig: Rig) -> None:
    """With a key and without; looked at now and then, whatever is asked. A limit of the key's own goes before it."""
    looked = []

    def room() -> tuple[int, int]:
        looked.append(0)
        return 10, 8 + len(looked)

    auth = StoredAuthenticator(store=rig.store, clock=rig.clock, host="127.0.0.1", room=room, patience_s=WITHIN_S)
    assert dict(auth.rate_headers(LOCAL)) == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"1",
        b"x-ratelimit-reset-requests": b"0ms",
    }
    auth.rate_headers(LOCAL)
    assert len(looked) == 1
    rig.clock.advance(1.0)
    full = dict(auth.rate_headers(LOCAL))
    assert (full[b"x-ratelimit-remaining-requests"], full[b"x-ratelimit-reset-requests"]) == (b"0", b"250ms")
    limited = await auth.authenticate(await rig.key(requests_per_minute=6), Scope.SERVE)
    assert dict(auth.rate_headers(limited))[b"x-ratelimit-limit-requests"] == b"6"


async def test_a_key_without_limits_has_no_headers(rig: Rig) -> None:
    """As OpenAI leaves them out."""
    principal = await rig.auth.authenticate(await rig.key(), Scope.SERVE)
    assert rig.auth.rate_headers(principal) == ()
    assert rig.auth.rate_headers(LOCAL) == ()


async def test_a_deleted_or_expired_key_is_refused(rig: Rig) -> None:
    """Within the time keys are cached."""
    key = await rig.key(ttl_s=100)
    principal = await rig.auth.authenticate(key, Scope.SERVE)
    rig.clock.advance(101)
    with pytest.raises(NotAuthenticated, match="expired"):
        await rig.auth.authenticate(key, Scope.SERVE)
    other = await rig.key()
    await rig.credentials.delete_key(principal.key_id)
    rig.clock.advance(1.5)
    with pytest.raises(NotAuthenticated, match="Incorrect"):
        await rig.auth.authenticate(key, Scope.SERVE)
    await rig.auth.authenticate(other, Scope.SERVE)


async def test_a_key_carries_its_rules(rig: Rig) -> None:
    """Labels, floors, targets and priority reach the principal."""
    key = await rig.key(
        labels={"site": "clinic"}, quality_floor="q6_k", never_quantized=True, ttft_s=1.5, tpot_s=0.1, priority=3
    )
    principal = await rig.auth.authenticate(key, Scope.SERVE)
    assert principal.required_labels == (("site", "clinic"),)
    assert (principal.quality_floor, principal.never_quantized, principal.priority) == ("q6_k", True, 3)
    assert principal.slo is not None
    assert (principal.slo.ttft_s, principal.slo.tpot_s) == (1.5, 0.1)


async def test_a_keys_floor_must_be_a_quantization(rig: Rig) -> None:
    """Named canonically when it is; refused with near matches when it is not."""
    principal = await rig.auth.authenticate(await rig.key(quality_floor="Q4-K-M"), Scope.SERVE)
    assert principal.quality_floor == "q4_k_m"
    with pytest.raises(InvalidRequest, match="did you mean q4_k_m"):
        await rig.key(quality_floor="q4_m_k")


async def test_known_keys_stay_good_while_the_store_is_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or dead disk stops no traffic; a router that never read its keys lets nobody in."""
    key = await rig.key()
    await rig.auth.authenticate(key, Scope.SERVE)

    async def fails() -> None:
        raise StoreFailed("the disk is gone")

    monkeypatch.setattr(rig.store, "keys", fails)
    rig.clock.advance(5)
    await rig.auth.authenticate(key, Scope.SERVE)
    fresh = StoredAuthenticator(store=rig.store, clock=rig.clock, host="127.0.0.1", patience_s=WITHIN_S)
    with pytest.raises(Unavailable):
        await fresh.authenticate(key, Scope.SERVE)


async def test_no_secret_is_kept_or_listed(rig: Rig) -> None:
    """Only the hash is stored, and listing does not show even that."""
    secret = (await rig.key()).removeprefix("Bearer ")
    (record,) = await rig.store.keys()
    assert secret not in repr(record)
    (listed,) = await rig.credentials.list_keys()
    assert "secret_sha256" not in listed
    assert not any(secret in str(line) for line in await rig.store.audit_lines())


class _Hanging:
    """A store that answers nobody until it is let."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = asyncio.Event()
        self.asked = 0
        keys, spend = rig.store.keys, rig.store.spend

        async def hangs(*told: Any) -> Any:
            self.asked += 1
            await self.answers.wait()
            return await (spend(*told) if told else keys())

        monkeypatch.setattr(rig.store, "keys", hangs)
        monkeypatch.setattr(rig.store, "spend", hangs)


async def test_a_store_that_hangs_keeps_nobody_waiting_whose_key_is_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read last counts; one reader waits at a time, and what it brings counts again."""
    key = await rig.key()
    auth = StoredAuthenticator(store=rig.store, clock=rig.clock, host="127.0.0.1", patience_s=0.01)
    await auth.authenticate(key, Scope.SERVE)
    hanging = _Hanging(rig, monkeypatch)
    rig.clock.advance(5)
    async with asyncio.timeout(WITHIN_S):
        for _ in range(20):
            assert (await auth.authenticate(key, Scope.SERVE)).tenant == "alice"
    assert hanging.asked == 1
    await rig.store.delete_key((await auth.authenticate(key, Scope.SERVE)).key_id)
    hanging.answers.set()
    assert auth._refreshing is not None
    await auth._refreshing
    with pytest.raises(NotAuthenticated):
        await auth.authenticate(key, Scope.SERVE)


async def test_a_store_that_hangs_makes_each_replica_count_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits for it but the first; what was spent meanwhile is told when it answers."""
    key = await rig.key(requests_per_minute=8)
    auth = StoredAuthenticator(store=rig.store, clock=rig.clock, host="127.0.0.1", shared=True, patience_s=0.01)
    await auth._current_keys(0.0)
    hanging = _Hanging(rig, monkeypatch)
    async with asyncio.timeout(WITHIN_S):
        for _ in range(8):
            principal = await auth.authenticate(key, Scope.SERVE)
        with pytest.raises(RateLimited):
            await auth.authenticate(key, Scope.SERVE)
    assert hanging.asked == 1
    hanging.answers.set()
    auth._alone_until = 0.0
    with pytest.raises(RateLimited):
        await auth.authenticate(key, Scope.SERVE)
    await asyncio.gather(*auth._telling)
    assert await rig.store.spend(f"{principal.key_id}:requests", 0.0, 8.0, 60.0) < 1.0
