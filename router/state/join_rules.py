"""The rules of letting machines in, inside one transaction: what a token is good for, who is who, what is full."""

from typing import TypeVar

import msgspec

from protos.contract.joining.enrolment import EnrolRefused, ReasonCode
from router.state.backend import StoreFailed, Transaction
from router.state.rows import TokenRow, WorkerRow

S = TypeVar("S", bound=msgspec.Struct)

MAX_WORKERS = 16_384

_encode = msgspec.json.encode


def redeem(
    tx: Transaction, token_id: str, secret_sha256: str, worker: WorkerRow, now: float
) -> WorkerRow | EnrolRefused:
    """Let a machine in with a token: the same key again gets the same answer, another key one use less."""
    token = known_token(tx, token_id, secret_sha256)
    if isinstance(token, EnrolRefused):
        return token
    earlier = token.used_by.get(worker.key_fingerprint)
    if earlier is not None and (known := get_row(tx, "worker", earlier, WorkerRow)) is not None:
        return refused_if_revoked(known) or known
    if (refused := why_not(token, now)) is not None:
        return refused
    known = by_key(tx, worker.key_fingerprint)
    if known is not None:
        if (revoked := refused_if_revoked(known)) is not None:
            return revoked
        worker = msgspec.structs.replace(
            known, labels={**known.labels, **token.labels}, models=token.models, token_id=token_id
        )
    else:
        keep_bounded(tx, "worker", MAX_WORKERS, "workers")
        worker = msgspec.structs.replace(
            worker,
            node=_unique_node(tx, worker.node),
            labels=dict(token.labels),
            models=token.models,
            token_id=token_id,
            enrolled_at=now,
        )
        tx.put("worker_key", worker.key_fingerprint, _encode(worker.worker_id))
    tx.put("worker", worker.worker_id, _encode(worker))
    used_by = {**token.used_by, worker.key_fingerprint: worker.worker_id}
    tx.put("token", token_id, _encode(msgspec.structs.replace(token, used_by=used_by)))
    return worker


def known_token(tx: Transaction, token_id: str, secret_sha256: str) -> TokenRow | EnrolRefused:
    """Nothing is told about a token to someone who does not hold its secret."""
    token = get_row(tx, "token", token_id, TokenRow)
    if token is None or token.secret_sha256 != secret_sha256:
        return EnrolRefused(
            code=ReasonCode.TOKEN_UNKNOWN,
            reason="the token is not known here; make a new one with `allsorts token create`",
        )
    return token


def why_not(token: TokenRow, now: float) -> EnrolRefused | None:
    """Why the token lets no further machine in; None: it does."""
    if now > token.expires_at:
        return EnrolRefused(
            code=ReasonCode.TOKEN_EXPIRED, reason="the token has expired; make a new one with `allsorts token create`"
        )
    if len(token.used_by) >= token.uses:
        return EnrolRefused(
            code=ReasonCode.TOKEN_USED,
            reason="the token was used already, with another key; make a new one for this machine",
        )
    return None


def refused_if_revoked(worker: WorkerRow) -> EnrolRefused | None:
    """The answer to a machine that an operator cut off."""
    if worker.revoked_at is None:
        return None
    reason = f"this machine was revoked: {worker.revoked_reason or 'no reason given'}"
    return EnrolRefused(code=ReasonCode.REVOKED, reason=reason)


def _unique_node(tx: Transaction, name: str) -> str:
    """Names of revoked workers stay taken: a new machine must not be mistaken for one that was thrown out."""
    taken = {worker.node for worker in all_rows(tx, "worker", WorkerRow)}
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def by_key(tx: Transaction, key_fingerprint: str) -> WorkerRow | None:
    """A worker by its public key."""
    found = tx.get("worker_key", key_fingerprint)
    return None if found is None else get_row(tx, "worker", msgspec.json.decode(found, type=str), WorkerRow)


def stranger(worker_id: str, node: str = "") -> WorkerRow:
    """A worker of which nothing is known but a decision about it."""
    return WorkerRow(worker_id=worker_id, node=node or worker_id, key_fingerprint="")


def get_row(tx: Transaction, kind: str, key: str, struct: type[S]) -> S | None:
    """One record; None when there is none."""
    found = tx.get(kind, key)
    return None if found is None else msgspec.json.decode(found, type=struct)


def all_rows(tx: Transaction, kind: str, struct: type[S]) -> list[S]:
    """Every record of a kind."""
    return [msgspec.json.decode(value, type=struct) for _, value in tx.items(kind)]


def keep_bounded(tx: Transaction, kind: str, limit: int, what: str) -> None:
    """Raises StoreFailed when the kind is full."""
    if len(tx.items(kind)) >= limit:
        raise StoreFailed(f"the store holds {limit} {what}, its limit; delete some first")
