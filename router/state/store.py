"""The store: what operators decided and who was let in, over any backend. Every method is one transaction.

Calls run in a thread of the store's own, one after the other, so that a slow disk never holds up the event loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import msgspec

from protos.contract.joining.enrolment import EnrolRefused
from router.state import kept_responses
from router.state.backend import Backend, StoreFailed, Transaction
from router.state.join_rules import (
    all_rows,
    by_key,
    get_row,
    keep_bounded,
    known_token,
    redeem,
    stranger,
    why_not,
)
from router.state.rows import AuditLine, AuthorityRow, DesiredRow, KeyRow, ResponseRow, TokenRow, WorkerRow

T = TypeVar("T")

MAX_AUDIT_LINES = 10_000
DECISIONS, REFUSALS = "audit", "audit.refused"
MAX_KEYS = 10_000
MAX_TOKENS = 10_000
TOKEN_KEPT_S = 30 * 86400.0
"""How long an expired token is remembered, so that its late user is told that it expired."""

CALL_DEADLINE_S = 15.0

_encode = msgspec.json.encode


class Store(Protocol):
    """What the router asks of its memory. Raises StoreFailed when the backend fails."""

    async def authority(self, fresh: AuthorityRow) -> AuthorityRow:
        """The pool's CA; ``fresh`` becomes it when there is none. One wins when several replicas start."""
        ...

    async def add_key(self, key: KeyRow) -> None: ...  # noqa: D102
    async def keys(self) -> list[KeyRow]: ...  # noqa: D102
    async def delete_key(self, key_id: str) -> bool: ...  # noqa: D102

    async def add_token(self, token: TokenRow, now: float) -> None:
        """Keep a token; forgets those long expired."""
        ...

    async def redeem(
        self, token_id: str, secret_sha256: str, worker: WorkerRow, now: float
    ) -> WorkerRow | EnrolRefused:
        """Let a machine in with a token: the same key again gets the same answer, another key one use less."""
        ...

    async def examine(self, token_id: str, secret_sha256: str, now: float) -> EnrolRefused | None:
        """Whether a token would let one more machine in; uses nothing up. None: it would."""
        ...

    async def worker(self, worker_id: str) -> WorkerRow | None: ...  # noqa: D102
    async def worker_by_key(self, key_fingerprint: str) -> WorkerRow | None: ...  # noqa: D102
    async def workers(self) -> list[WorkerRow]: ...  # noqa: D102

    async def set_cordoned(self, worker_id: str, cordoned: bool) -> None: ...  # noqa: D102
    async def revoke(self, worker_id: str, node: str, reason: str, now: float) -> None: ...  # noqa: D102
    async def refuse_model(self, worker_id: str, node: str, model: str) -> None: ...  # noqa: D102
    async def desired(self) -> DesiredRow | None: ...  # noqa: D102

    async def replace_desired(self, row: DesiredRow) -> bool:
        """Keep what is wanted of the fleet from now on; False when its version is not the next one."""
        ...

    async def audit(self, line: AuditLine) -> None: ...  # noqa: D102
    async def audit_lines(self, limit: int = 100) -> list[AuditLine]: ...  # noqa: D102
    async def remember(self, name: str, value: str) -> None: ...  # noqa: D102
    async def recall(self, name: str) -> str | None: ...  # noqa: D102

    async def keep_response(self, owner: str, row: ResponseRow, limit_bytes: int, now: float) -> bool:
        """Keep an answer of this key's until it expires, or the bytes of all are needed; False: it is too large."""
        ...

    async def response(self, owner: str, response_id: str, now: float) -> ResponseRow | None: ...  # noqa: D102
    async def forget_response(self, owner: str, response_id: str, now: float) -> bool: ...  # noqa: D102

    async def refresh(self) -> int:
        """A number that differs once anybody has written; see ``Backend.refresh``."""
        ...

    async def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None: ...  # noqa: D102
    async def posts(self, board: str) -> list[tuple[str, bytes]]: ...  # noqa: D102
    async def withdraw(self, board: str, key: str) -> None: ...  # noqa: D102
    async def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


MAX_REFUSED_MODELS = 256
"""Of one worker: as many as it may announce."""


class BackedStore:
    """Implements ``Store`` over a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def _transact(self, work: Callable[[Transaction], T]) -> T:
        return await self._call(lambda: self._backend.transact(work))

    async def _call(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_DEADLINE_S):
                return await loop.run_in_executor(self._thread, work)
        except TimeoutError:
            raise StoreFailed(f"the store did not answer within {CALL_DEADLINE_S:.0f} s; is its disk alive?") from None

    async def close(self) -> None:
        """Finish what runs, close the backend."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._backend.close)
        self._thread.shutdown()

    # -- other replicas ---------------------------------------------------------------------------------

    async def refresh(self) -> int:
        """A number that differs once anybody has written; see ``Backend.refresh``."""
        return await self._call(self._backend.refresh)

    async def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """Leave or renew a notice."""
        await self._call(lambda: self._backend.post(board, key, value, ttl_s))

    async def posts(self, board: str) -> list[tuple[str, bytes]]:
        """The notices that stand, by key."""
        return await self._call(lambda: self._backend.posts(board))

    async def withdraw(self, board: str, key: str) -> None:
        """Take a notice down."""
        await self._call(lambda: self._backend.withdraw(board, key))

    async def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """Take from a bucket that all replicas share; its level. See ``Backend.spend``."""
        return await self._call(lambda: self._backend.spend(bucket, amount, per_minute, max_debt_s))

    # -- authority -------------------------------------------------------------------------------------

    async def authority(self, fresh: AuthorityRow) -> AuthorityRow:
        """The pool's CA; ``fresh`` becomes it when there is none."""

        def work(tx: Transaction) -> AuthorityRow:
            found = get_row(tx, "authority", "ca", AuthorityRow)
            if found is None:
                tx.put("authority", "ca", _encode(fresh))
            return found or fresh

        return await self._transact(work)

    # -- keys ------------------------------------------------------------------------------------------

    async def add_key(self, key: KeyRow) -> None:
        """Keep a key."""

        def work(tx: Transaction) -> None:
            keep_bounded(tx, "key", MAX_KEYS, "API keys")
            tx.put("key", key.key_id, _encode(key))

        await self._transact(work)

    async def keys(self) -> list[KeyRow]:
        """Every key."""
        return await self._transact(lambda tx: all_rows(tx, "key", KeyRow))

    async def delete_key(self, key_id: str) -> bool:
        """Forget a key; False when there is none of this id."""
        return await self._transact(lambda tx: tx.delete("key", key_id))

    # -- tokens and workers ----------------------------------------------------------------------------

    async def add_token(self, token: TokenRow, now: float) -> None:
        """Keep a token; forgets those long expired."""

        def work(tx: Transaction) -> None:
            for old in all_rows(tx, "token", TokenRow):
                if old.expires_at + TOKEN_KEPT_S < now:
                    tx.delete("token", old.token_id)
            keep_bounded(tx, "token", MAX_TOKENS, "join tokens")
            tx.put("token", token.token_id, _encode(token))

        await self._transact(work)

    async def redeem(
        self, token_id: str, secret_sha256: str, worker: WorkerRow, now: float
    ) -> WorkerRow | EnrolRefused:
        """Let a machine in with a token; see ``Store``."""
        return await self._transact(lambda tx: redeem(tx, token_id, secret_sha256, worker, now))

    async def examine(self, token_id: str, secret_sha256: str, now: float) -> EnrolRefused | None:
        """Whether a token would let one more machine in; uses nothing up. None: it would."""

        def work(tx: Transaction) -> EnrolRefused | None:
            token = known_token(tx, token_id, secret_sha256)
            return token if isinstance(token, EnrolRefused) else why_not(token, now)

        return await self._transact(work)

    async def worker(self, worker_id: str) -> WorkerRow | None:
        """A worker by id."""
        return await self._transact(lambda tx: get_row(tx, "worker", worker_id, WorkerRow))

    async def worker_by_key(self, key_fingerprint: str) -> WorkerRow | None:
        """A worker by its public key."""
        return await self._transact(lambda tx: by_key(tx, key_fingerprint))

    async def workers(self) -> list[WorkerRow]:
        """Everyone who was ever let in, the revoked included."""
        return await self._transact(lambda tx: all_rows(tx, "worker", WorkerRow))

    async def set_cordoned(self, worker_id: str, cordoned: bool) -> None:
        """Remember a cordon, or lift it. A worker not yet known is remembered with nothing but this."""

        def work(tx: Transaction) -> None:
            known = get_row(tx, "worker", worker_id, WorkerRow) or stranger(worker_id)
            tx.put("worker", worker_id, _encode(msgspec.structs.replace(known, cordoned=cordoned)))

        await self._transact(work)

    async def revoke(self, worker_id: str, node: str, reason: str, now: float) -> None:
        """Remember a revocation for good; the first one stands."""

        def work(tx: Transaction) -> None:
            known = get_row(tx, "worker", worker_id, WorkerRow) or stranger(worker_id, node)
            if known.revoked_at is None:
                revoked = msgspec.structs.replace(known, revoked_at=now, revoked_reason=reason)
                tx.put("worker", worker_id, _encode(revoked))

        await self._transact(work)

    async def refuse_model(self, worker_id: str, node: str, model: str) -> None:
        """Remember that a worker may not serve a model, up to ``MAX_REFUSED_MODELS``: the oldest make room."""

        def work(tx: Transaction) -> None:
            known = get_row(tx, "worker", worker_id, WorkerRow) or stranger(worker_id, node)
            refused = (*(one for one in known.refused_models if one != model), model)[-MAX_REFUSED_MODELS:]
            tx.put("worker", worker_id, _encode(msgspec.structs.replace(known, refused_models=refused)))

        await self._transact(work)

    # -- the desired state -----------------------------------------------------------------------------

    async def desired(self) -> DesiredRow | None:
        """What is wanted of the fleet; None when nothing ever was."""
        return await self._transact(lambda tx: get_row(tx, "desired", "fleet", DesiredRow))

    async def replace_desired(self, row: DesiredRow) -> bool:
        """Keep what is wanted of the fleet from now on; see ``Store``."""

        def work(tx: Transaction) -> bool:
            known = get_row(tx, "desired", "fleet", DesiredRow)
            if row.version != (known.version if known is not None else 0) + 1:
                return False
            tx.put("desired", "fleet", _encode(row))
            return True

        return await self._transact(work)

    # -- audit and small facts -------------------------------------------------------------------------

    async def audit(self, line: AuditLine) -> None:
        """Add a line; the newest ``MAX_AUDIT_LINES`` are kept, refusals apart: anyone who can connect can cause those,
        and must not push out what operators decided.
        """
        log = REFUSALS if line.event.endswith(".refused") else DECISIONS
        await self._transact(lambda tx: tx.append(log, _encode(line), MAX_AUDIT_LINES))

    async def audit_lines(self, limit: int = 100) -> list[AuditLine]:
        """The newest lines, oldest of them first."""
        kept = await self._transact(lambda tx: [*tx.tail(DECISIONS, limit), *tx.tail(REFUSALS, limit)])
        lines = [msgspec.json.decode(line, type=AuditLine) for line in kept]
        return sorted(lines, key=lambda line: line.at)[-limit:]

    async def remember(self, name: str, value: str) -> None:
        """A small fact for the command line, such as where workers dial."""
        await self._transact(lambda tx: tx.put("fact", name, _encode(value)))

    async def recall(self, name: str) -> str | None:
        """A small fact; None when it was never said."""
        found = await self._transact(lambda tx: tx.get("fact", name))
        return None if found is None else msgspec.json.decode(found, type=str)

    # -- answers that clients come back to -------------------------------------------------------------

    async def keep_response(self, owner: str, row: ResponseRow, limit_bytes: int, now: float) -> bool:
        """Keep an answer; see ``Store``."""
        return await self._transact(lambda tx: kept_responses.keep(tx, owner, row, limit_bytes, now))

    async def response(self, owner: str, response_id: str, now: float) -> ResponseRow | None:
        """An answer of this key's; None when there is none, or its time is over."""
        return await self._transact(lambda tx: kept_responses.find(tx, owner, response_id, now))

    async def forget_response(self, owner: str, response_id: str, now: float) -> bool:
        """Erase an answer of this key's; False when there is none."""
        return await self._transact(lambda tx: kept_responses.forget(tx, owner, response_id, now))
