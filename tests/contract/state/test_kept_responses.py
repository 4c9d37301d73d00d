"""Answers that clients come back to, in every store: each its owner's alone, for a time, and all within a bound."""

from collections.abc import Callable

import msgspec
import pytest

from router.state import kept_responses
from router.state.backend import Backend
from router.state.rows import ResponseRow
from router.state.store import BackedStore

ROOM = 1_000_000


def answer(name: str, expires_at: float = 100.0, size: int = 10) -> ResponseRow:
    said = msgspec.json.encode({"id": name, "text": "\u00fc" * size})
    return ResponseRow(
        response_id=name, response=msgspec.Raw(said), items=msgspec.Raw(b'[{"role":"user"}]'), expires_at=expires_at
    )


async def kept(store: BackedStore, owner: str, *names: str, now: float = 1.0) -> list[str]:
    """Which of them the store still has."""
    return [name for name in names if await store.response(owner, name, now) is not None]


def left(make_backend: Callable[[], Backend]) -> dict[str, int]:
    """Entries of each kind, where there are any."""
    backend = make_backend()
    kinds = ("response", "response_place", "response_queue")
    found = backend.transact(lambda tx: {kind: len(tx.items(kind)) for kind in kinds})
    backend.close()
    return {kind: count for kind, count in found.items() if count}


async def test_what_was_kept_comes_back_as_it_was(store: BackedStore) -> None:
    row = answer("resp_1")
    assert await store.keep_response("k1", row, ROOM, 1.0)
    assert await store.response("k1", "resp_1", 99.9) == row
    assert await store.response("k1", "resp_2", 1.0) is None


async def test_one_key_neither_reads_nor_erases_anothers(store: BackedStore) -> None:
    """Not by a name with slashes either."""
    await store.keep_response("k1", answer("resp_1"), ROOM, 1.0)
    await store.keep_response("", answer("resp_2"), ROOM, 1.0)
    for owner, name in (("k2", "resp_1"), ("", "resp_1"), ("", "k1/resp_1"), ("k1", "resp_2"), ("k", "1/resp_1")):
        assert await store.response(owner, name, 1.0) is None
        assert not await store.forget_response(owner, name, 1.0)
    assert await kept(store, "k1", "resp_1") == ["resp_1"]


async def test_its_time_over_it_is_gone_and_soon_erased(
    store: BackedStore, make_backend: Callable[[], Backend]
) -> None:
    """Also of an owner who never comes again."""
    await store.keep_response("k1", answer("old", expires_at=50.0), ROOM, 1.0)
    assert await store.response("k1", "old", 50.0) is None
    assert not await store.forget_response("k1", "old", 50.0)
    for number in range(3):
        await store.keep_response("k1", answer(f"r{number}", expires_at=60.0 + number), ROOM, 55.0)
    await store.keep_response("k2", answer("new", expires_at=500.0), ROOM, 200.0)
    assert left(make_backend) == {"response": 1, "response_place": 1, "response_queue": 1}


async def test_erased_is_erased(store: BackedStore) -> None:
    await store.keep_response("k1", answer("resp_1"), ROOM, 1.0)
    assert await store.forget_response("k1", "resp_1", 2.0)
    assert not await store.forget_response("k1", "resp_1", 2.0)
    assert await kept(store, "k1", "resp_1") == []


async def test_past_the_bound_the_oldest_of_whoever_holds_most_goes(store: BackedStore) -> None:
    """One key's flood leaves another's one answer alone."""
    size = len(msgspec.json.encode(answer("r00", size=100)))
    await store.keep_response("quiet", answer("own"), 10 * size, 1.0)
    for number in range(30):
        await store.keep_response("loud", answer(f"r{number:02d}", size=100), 10 * size, 1.0)
    assert await kept(store, "quiet", "own") == ["own"]
    assert await kept(store, "loud", *(f"r{number:02d}" for number in range(30))) == [
        f"r{number:02d}" for number in range(21, 30)
    ]


async def test_erasing_gives_room_back(store: BackedStore) -> None:
    """What was erased is not counted again when its place comes to the front."""
    size = len(msgspec.json.encode(answer("r00", size=100)))
    for number in range(40):
        await store.keep_response("k", answer(f"r{number:02d}", size=100), 4 * size, 1.0)
        if number % 3 == 0:
            assert await store.forget_response("k", f"r{number:02d}", 1.0)
    assert await kept(store, "k", *(f"r{number:02d}" for number in range(40))) == ["r35", "r37", "r38"]


async def test_one_that_is_too_large_is_not_kept(store: BackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nobody else's."""
    await store.keep_response("k", answer("small"), ROOM, 1.0)
    assert not await store.keep_response("k", answer("larger", size=200), 300, 1.0)
    monkeypatch.setattr(kept_responses, "EACH_BYTES", 300)
    assert not await store.keep_response("k", answer("large", size=200), ROOM, 1.0)
    assert await kept(store, "k", "small", "large", "larger") == ["small"]


async def test_the_count_is_bounded_too(store: BackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_responses, "MAX_RESPONSES", 5)
    for number in range(8):
        await store.keep_response("k", answer(f"r{number}"), ROOM, 1.0)
    assert await kept(store, "k", *(f"r{number}" for number in range(8))) == [f"r{number}" for number in range(3, 8)]
