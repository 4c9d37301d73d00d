"""Refusals of one asker are told at once at first, then at a pace; nobody waits for another's, or for long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.clock import ManualClock
from router.errors import RateLimited
from router.http.access import refusal_pace
from router.http.access.refusal_pace import MAX_WAIT_S, RefusalPace
from tests.support.http_surface import surface
from tests.unit.router.http.test_answers import Guard

AT_ONCE = 4
PER_S = 2.0


@settings(max_examples=80)
@given(pauses=st.lists(st.floats(0.0, 3.0) | st.just(0.0), min_size=1, max_size=80))
def test_what_is_told_keeps_the_pace(pauses: list[float]) -> None:
    """In every span of time no more than what goes at once and what the pace lets through, but for those that waited
    for as long as anybody must.
    """
    clock = ManualClock()
    pace = RefusalPace(clock.now, at_once=AT_ONCE, per_s=PER_S)
    told = []
    for pause in pauses:
        clock.advance(pause)
        wait_s = pace.wait_s("key")
        assert 0.0 <= wait_s <= MAX_WAIT_S
        if wait_s < MAX_WAIT_S:
            told.append(clock.now() + wait_s)
    for first in range(len(told)):
        for last in range(first, len(told)):
            assert last - first < AT_ONCE + PER_S * (told[last] - told[first]) + 0.001


def test_the_first_are_told_at_once_and_the_next_is_not() -> None:
    """Just at the bound, just above it; another asker is none of it."""
    pace = RefusalPace(ManualClock().now)
    assert [pace.wait_s("key") for _ in range(refusal_pace.AT_ONCE)] == [0.0] * refusal_pace.AT_ONCE
    assert pace.wait_s("key") == 1.0 / refusal_pace.PER_S
    assert pace.wait_s("another") == 0.0


def test_after_a_pause_all_is_forgiven() -> None:
    """As many at once as before."""
    clock = ManualClock()
    pace = RefusalPace(clock.now, at_once=AT_ONCE, per_s=PER_S)
    while pace.wait_s("key") < MAX_WAIT_S:
        pass
    clock.advance(MAX_WAIT_S + AT_ONCE / PER_S)
    assert [pace.wait_s("key") for _ in range(AT_ONCE)] == [0.0] * AT_ONCE


def test_so_many_askers_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest unheard of is forgotten first."""
    monkeypatch.setattr(refusal_pace, "MAX_ASKERS", 3)
    pace = RefusalPace(ManualClock().now, at_once=1, per_s=1.0)
    waits = [pace.wait_s(asker) for asker in ("a", "b", "c", "a", "d", "a", "b")]
    assert waits == [0.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0]


class _Paced:
    """Everybody waits a moment; who, is noted."""

    def __init__(self) -> None:
        self.askers: list[str] = []

    def wait_s(self, asker: str) -> float:
        self.askers.append(asker)
        return 0.01


async def test_who_is_refused_waits_by_its_key_and_else_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key is no asker: there are as many of those as anybody likes."""
    pace = _Paced()
    monkeypatch.setattr("router.http.server.asgi.RefusalPace", lambda _: pace)
    async with surface(authenticator=Guard()).client() as client:
        statuses = []
        for key, path in (("wrong", "/v1/chat/completions"), ("serve", "/v1/chat/completions"), ("serve", "/nowhere")):
            reply = await client.post(path, json={}, headers={"authorization": f"Bearer {key}"})
            statuses.append(reply.status_code)
        await client.get("/v1/models", headers={"authorization": "Bearer serve"})
    assert statuses == [401, 400, 404]
    address = pace.askers[0]
    assert pace.askers == [address, "k", address]


async def test_retry_after_is_told_as_of_when_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the caller's limits once."""

    class Spent(Guard):
        async def authenticate(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise RateLimited(
                "too many", retry_after_s=2.005, limits=((b"x-ratelimit-limit-requests", b"60"),), asker="k"
            )

    pace = _Paced()
    monkeypatch.setattr("router.http.server.asgi.RefusalPace", lambda _: pace)
    async with surface(authenticator=Spent()).client() as client:  # type: ignore[arg-type]
        reply = await client.post("/v1/chat/completions", json={})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
    assert reply.headers.get_list("x-ratelimit-limit-requests") == ["60"]
    assert pace.askers == ["k"]
