"""Which models' files lie on which machines."""

import hashlib

from protos.contract.events import FetchProgress, FilesHeld
from protos.contract.files.content import FilePart, HeldModel, content_of
from protos.contract.ids import WorkerId
from router.fleet.pool_files import MAX_FETCHES, PoolFiles

A, B = WorkerId("a"), WorkerId("b")


def model(name: str, *texts: str) -> HeldModel:
    parts = [
        FilePart(name=f"{one}.json", size_bytes=len(one), sha256=hashlib.sha256(one.encode()).hexdigest())
        for one in texts
    ]
    return HeldModel(model=name, quantization="q8_0", format="gguf", content=content_of(parts))


def files(*models: HeldModel, shares: bool = True) -> FilesHeld:
    return FilesHeld(models=models, shares=shares)


def test_a_file_can_be_had_from_everybody_who_has_it_and_shares() -> None:
    """A part of two models as well."""
    pool, one, two = PoolFiles(), model("m", "x", "y"), model("n", "y", "z")
    shared = hashlib.sha256(b"y").hexdigest()
    pool.tell_held(A, files(one))
    pool.tell_held(B, files(two))
    pool.tell_held(WorkerId("c"), files(one, shares=False))
    assert pool.holders(shared) == (A, B)
    assert pool.names_of(shared) == {"m", "n"}
    assert pool.size_of(shared) == 1
    assert (pool.holders("0" * 64), pool.size_of("0" * 64)) == ((), None)


def test_a_model_is_known_by_its_content_as_long_as_anybody_has_it() -> None:
    """What a worker says replaces what it said."""
    pool, one = PoolFiles(), model("m", "x")
    pool.tell_held(A, files(one))
    assert pool.content(one.content.sha256) == one.content
    pool.tell_held(A, files())
    assert pool.content(one.content.sha256) is None
    assert pool.copies() == []


def test_two_contents_under_one_name_are_two() -> None:
    """That is how one sees that a machine serves something else."""
    pool, honest, other = PoolFiles(), model("m", "x"), model("m", "changed")
    pool.tell_held(A, files(honest))
    pool.tell_held(B, files(honest, other))
    found = {one.held.content.sha256: one.workers for one in pool.copies("m")}
    assert found == {honest.content.sha256: (A, B), other.content.sha256: (B,)}


def test_who_is_gone_holds_nothing() -> None:
    """Nor fetches anything."""
    pool = PoolFiles()
    pool.tell_held(A, files(model("m", "x")))
    pool.tell_fetch(A, FetchProgress(model="n", quantization="", total_bytes=2))
    pool.forget(A)
    assert (pool.copies(), pool.fetches_of(A)) == ([], ())


def test_a_fetch_is_shown_until_it_is_done() -> None:
    """A failed one stays with its reason until it is tried again."""
    pool = PoolFiles()
    pool.tell_fetch(A, FetchProgress(model="n", quantization="", done_bytes=1, total_bytes=2))
    assert [one.done_bytes for one in pool.fetches_of(A)] == [1]
    pool.tell_fetch(A, FetchProgress(model="n", quantization="", error="no room"))
    assert [one.error for one in pool.fetches_of(A)] == ["no room"]
    pool.tell_fetch(A, FetchProgress(model="n", quantization="", done_bytes=2, total_bytes=2))
    assert pool.fetches_of(A) == ()


def test_fetches_of_a_worker_are_bounded() -> None:
    """One that invents names fills no memory."""
    pool = PoolFiles()
    for number in range(MAX_FETCHES + 5):
        pool.tell_fetch(A, FetchProgress(model=f"m{number}", quantization=""))
    assert len(pool.fetches_of(A)) == MAX_FETCHES
