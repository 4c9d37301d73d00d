"""What every store must do, whatever lies underneath."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from protos.contract.joining.enrolment import EnrolRefused
from router.state.backend import Backend, Transaction
from router.state.rows import AuditLine, AuthorityRow, DesiredRow, KeyRow, TokenRow, WorkerRow
from router.state.store import MAX_REFUSED_MODELS, BackedStore


def token(uses: int = 1, expires_at: float = 100.0, labels: dict[str, str] | None = None) -> TokenRow:
    return TokenRow(token_id="t1", secret_sha256="s" * 64, expires_at=expires_at, uses=uses, labels=labels or {})


def worker(key: str = "k1", worker_id: str = "mac-1", node: str = "mac") -> WorkerRow:
    return WorkerRow(worker_id=worker_id, node=node, key_fingerprint=key)


async def redeem(store: BackedStore, candidate: WorkerRow, now: float = 50.0) -> WorkerRow | EnrolRefused:
    return await store.redeem("t1", "s" * 64, candidate, now)


def refused(answer: WorkerRow | EnrolRefused) -> str:
    assert isinstance(answer, EnrolRefused)
    return answer.reason


async def test_a_transaction_that_fails_changes_nothing(make_backend: Callable[[], Backend]) -> None:
    """All or nothing, logs included."""
    backend = make_backend()

    def fails(tx: Transaction) -> None:
        tx.put("kind", "a", b'"1"')
        tx.append("log", b'"line"', 10)
        raise LookupError

    with pytest.raises(LookupError):
        backend.transact(fails)
    assert backend.transact(lambda tx: (tx.get("kind", "a"), tx.tail("log", 9))) == (None, [])
    backend.close()


async def test_a_transaction_sees_its_own_writes(make_backend: Callable[[], Backend]) -> None:
    """Reads after writes in one transaction are of the new values."""
    backend = make_backend()

    def work(tx: Transaction) -> list[object]:
        tx.put("kind", "b", b'"2"')
        tx.put("kind", "a", b'"1"')
        seen: list[object] = [tx.get("kind", "a"), tx.items("kind"), tx.delete("kind", "a"), tx.delete("kind", "a")]
        return [*seen, tx.items("kind")]

    assert backend.transact(work) == [b'"1"', [("a", b'"1"'), ("b", b'"2"')], True, False, [("b", b'"2"')]]
    backend.close()


async def test_writers_that_race_lose_nothing(make_backend: Callable[[], Backend]) -> None:
    """Two replicas that read, add one and write, end at the sum: transactions do not overlap."""

    def add_one(tx: Transaction) -> None:
        tx.put("count", "n", b"%d" % (int(tx.get("count", "n") or b"0") + 1))

    def many(backend: Backend) -> None:
        for _ in range(25):
            backend.transact(add_one)

    backends = [make_backend() for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(many, backend) for backend in backends))
    assert backends[0].transact(lambda tx: tx.get("count", "n")) == b"75"
    for backend in backends:
        backend.close()


async def test_logs_keep_their_newest_entries(make_backend: Callable[[], Backend]) -> None:
    """A log is bounded; the oldest entries go."""
    backend = make_backend()
    for number in range(25):
        backend.transact(lambda tx, number=number: tx.append("log", b"%d" % number, 10))
    assert backend.transact(lambda tx: tx.tail("log", 99)) == [b"%d" % n for n in range(15, 25)]
    assert backend.transact(lambda tx: tx.tail("log", 2)) == [b"23", b"24"]
    backend.close()


async def test_the_first_authority_stays(store: BackedStore) -> None:
    """Two replicas that start together agree on one CA."""
    one, two = (AuthorityRow(key_pem=b"k%d" % n, certificate_pem=b"c%d" % n) for n in (1, 2))
    first, second = await asyncio.gather(store.authority(one), store.authority(two))
    assert first == second
    assert await store.authority(two) == first


async def test_a_token_with_the_same_key_may_be_repeated(store: BackedStore) -> None:
    """A lost reply burns nothing, and the answer is the same."""
    await store.add_token(token(labels={"site": "lab"}), 0.0)
    first = await redeem(store, worker())
    again = await redeem(store, worker(worker_id="mac-other"))
    assert first == again
    assert isinstance(first, WorkerRow)
    assert first.labels == {"site": "lab"}
    assert await redeem(store, worker(), now=500.0) == first  # even when the reply was lost for a long time


async def test_a_token_with_another_key_is_used_up(store: BackedStore) -> None:
    """One use is one machine."""
    await store.add_token(token(), 0.0)
    await redeem(store, worker())
    assert "used already" in refused(await redeem(store, worker(key="k2", worker_id="mac-2")))
    assert await store.worker("mac-2") is None


async def test_many_machines_race_for_a_token_and_as_many_as_uses_win(store: BackedStore) -> None:
    """The count holds under concurrency."""
    await store.add_token(token(uses=3), 0.0)
    answers = await asyncio.gather(*(redeem(store, worker(key=f"k{n}", worker_id=f"w{n}")) for n in range(12)))
    admitted = [one for one in answers if isinstance(one, WorkerRow)]
    assert len(admitted) == 3
    assert {one.node for one in admitted} == {"mac", "mac-2", "mac-3"}


async def test_expired_and_unknown_tokens_are_refused_with_the_reason(store: BackedStore) -> None:
    """The secret is asked before anything is told about the token."""
    await store.add_token(token(), 0.0)
    assert "expired" in refused(await redeem(store, worker(), now=100.5))
    assert "not known" in refused(await store.redeem("t1", "x" * 64, worker(), 50.0))
    assert "not known" in refused(await store.redeem("t9", "s" * 64, worker(), 50.0))


async def test_a_revoked_machine_stays_out_with_any_token(store: BackedStore) -> None:
    """Its key is remembered; a fresh token does not help it, and its name stays taken."""
    await store.add_token(token(uses=9), 0.0)
    admitted = await redeem(store, worker())
    assert isinstance(admitted, WorkerRow)
    await store.revoke(admitted.worker_id, "mac", "sold", 60.0)
    await store.revoke(admitted.worker_id, "mac", "a later reason", 70.0)
    assert "revoked: sold" in refused(await redeem(store, worker()))
    fresh = TokenRow(token_id="t2", secret_sha256="z" * 64, expires_at=100.0, uses=1)
    await store.add_token(fresh, 61.0)
    assert "revoked" in refused(await store.redeem("t2", "z" * 64, worker(), 62.0))
    other = await redeem(store, worker(key="k2", worker_id="mac-x"))
    assert isinstance(other, WorkerRow)
    assert other.node == "mac-2"


async def test_what_a_machine_may_serve_comes_with_its_token_and_can_be_taken(store: BackedStore) -> None:
    """A new token says anew; what an operator took stays taken, also of a machine that has no record."""
    await store.add_token(msgspec.structs.replace(token(uses=2), models=("llama-*",)), 0.0)
    first = await redeem(store, worker())
    assert isinstance(first, WorkerRow)
    assert first.models == ("llama-*",)
    for model in ("a", "b", "a"):
        await store.refuse_model("mac-1", "mac", model)
    await store.refuse_model("stranger", "other", "a")
    known = await store.worker("mac-1")
    assert known is not None
    assert known.refused_models == ("b", "a")
    again = await redeem(store, worker())
    assert isinstance(again, WorkerRow)
    assert (again.models, again.refused_models) == (("llama-*",), ("b", "a"))
    stranger = await store.worker("stranger")
    assert stranger is not None
    assert stranger.refused_models == ("a",)
    for number in range(MAX_REFUSED_MODELS + 5):
        await store.refuse_model("mac-1", "mac", f"m{number}")
    known = await store.worker("mac-1")
    assert known is not None
    assert len(known.refused_models) == MAX_REFUSED_MODELS


async def test_keys_are_kept_listed_and_deleted(store: BackedStore) -> None:
    """Deleting twice says so."""
    key = KeyRow(key_id="k", name="alice", secret_sha256="0" * 64, scopes=("serve",), created_at=1.0)
    await store.add_key(key)
    assert await store.keys() == [key]
    assert await store.delete_key("k")
    assert not await store.delete_key("k")
    assert await store.keys() == []


async def test_cordons_and_revocations_of_workers_without_a_record_are_kept(store: BackedStore) -> None:
    """A worker of a plain loopback pool has no enrolment, decisions about it hold all the same."""
    await store.set_cordoned("local-1", True)
    await store.revoke("local-2", "local", "gone", 5.0)
    first, second = await store.worker("local-1"), await store.worker("local-2")
    assert first is not None
    assert first.cordoned
    assert second is not None
    assert second.revoked_reason == "gone"
    await store.set_cordoned("local-1", False)
    lifted = await store.worker("local-1")
    assert lifted is not None
    assert not lifted.cordoned


async def test_old_tokens_are_forgotten(store: BackedStore, make_backend: Callable[[], Backend]) -> None:
    """The store does not grow for ever."""
    await store.add_token(token(expires_at=1.0), 0.0)
    year = TokenRow(token_id="t2", secret_sha256="z" * 64, expires_at=3e7 + 60, uses=1)
    await store.add_token(year, 3e7)
    assert "not known" in refused(await redeem(store, worker(), now=3e7))


async def test_audit_lines_and_facts_are_kept(store: BackedStore) -> None:
    """In order; a fact is the latest said."""
    for number in range(5):
        await store.audit(AuditLine(at=float(number), event="join.refused", subject=f"n{number}"))
    assert [one.subject for one in await store.audit_lines(2)] == ["n3", "n4"]
    await store.audit(AuditLine(at=3.5, event="token.created", subject="t"))
    assert [one.subject for one in await store.audit_lines(3)] == ["n3", "t", "n4"]
    assert await store.recall("address") is None
    await store.remember("address", "a:1")
    await store.remember("address", "b:2")
    assert await store.recall("address") == "b:2"


async def test_a_flood_of_refusals_does_not_push_out_decisions(
    store: BackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever knocks at the door writes refusals; what operators did stays on record."""
    monkeypatch.setattr("router.state.store.MAX_AUDIT_LINES", 10)
    await store.audit(AuditLine(at=0.0, event="worker.revoked", subject="mac"))
    for number in range(30):
        await store.audit(AuditLine(at=1.0 + number, event="join.refused", subject="stranger"))
    kept = await store.audit_lines(1000)
    assert kept[0].subject == "mac"
    assert len(kept) == 11


async def test_what_is_wanted_of_the_fleet_is_kept_and_replaced_by_its_next_version_alone(
    make_backend: Callable[[], Backend],
) -> None:
    """Whoever worked from an older one is told so, and undoes nothing of what somebody else wants; it survives."""
    store = BackedStore(make_backend())
    assert await store.desired() is None
    first = DesiredRow(version=1, state="{}", applied_at=5.0)
    assert not await store.replace_desired(DesiredRow(version=2, state="{}"))
    assert await store.replace_desired(first)
    assert not await store.replace_desired(DesiredRow(version=1, state='{"models":[]}'))
    both = await asyncio.gather(*(store.replace_desired(DesiredRow(version=2, state=str(n))) for n in range(2)))
    assert sorted(both) == [False, True]
    await store.close()
    again = BackedStore(make_backend())
    kept = await again.desired()
    assert kept is not None
    assert kept.version == 2
    await again.close()
