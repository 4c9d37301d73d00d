"""Gates and intent over the store: revocations and cordons hold across restarts of the router.

``CertificateAuthorizer`` for pools with TLS, ``LoopbackAuthorizer`` for a plain pool on this machine,
``AuditedAuthorizer`` around either, ``StoredIntent`` for both.
"""

from protos.contract.ids import WorkerId
from protos.contract.validation import MAX_NAME
from router.domain.clock import Clock
from router.errors import NotAllowed
from router.state.rows import AuditLine, WorkerRow
from router.state.store import Store
from router.trust.audit_log import AuditLog
from router.trust.loopback_mode import OpenAuthorizer
from router.trust.session_authorizer import Admitted, SessionAuthorizer


class CertificateAuthorizer:
    """Admits a worker whose certificate names it, as long as it is enrolled and not revoked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:
        """Raises NotAllowed with the reason."""
        if peer_worker_id is None:
            raise NotAllowed("this pool asks for a certificate; join with `allsorts join HOST:PORT --token …`")
        if claimed and claimed != peer_worker_id:
            raise NotAllowed("the certificate is of another worker than the hello says")
        record = await self._store.worker(peer_worker_id)
        if record is None:
            raise NotAllowed("this worker is not enrolled here; join again with a new token")
        _refuse_revoked(record)
        return Admitted(
            worker_id=WorkerId(record.worker_id),
            node=record.node,
            labels=record.labels,
            models=record.models,
            refused_models=record.refused_models,
            believed=False,
            own_labels=False,  # or a worker could let itself see a tenant's prompts
            cordoned=record.cordoned,
        )


class LoopbackAuthorizer:
    """The open pool's authorizer, with decisions from the store on top."""

    def __init__(self, store: Store, authorizer: OpenAuthorizer) -> None:
        self._store = store
        self._authorizer = authorizer

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:
        """Raises NotAllowed with the reason."""
        admitted = await self._authorizer.admit(claimed, peer_worker_id)
        record = await self._store.worker(admitted.worker_id)
        if record is None:
            return admitted
        _refuse_revoked(record)
        return Admitted(
            worker_id=admitted.worker_id,
            node=admitted.node,
            refused_models=record.refused_models,
            cordoned=record.cordoned,
        )


class AuditedAuthorizer:
    """An authorizer whose refusals leave a line: a revoked machine that comes again is worth knowing of."""

    def __init__(self, authorizer: SessionAuthorizer, audit_log: AuditLog) -> None:
        self._authorizer = authorizer
        self._audit_log = audit_log

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:
        """Raises NotAllowed with the reason."""
        try:
            return await self._authorizer.admit(claimed, peer_worker_id)
        except NotAllowed as refusal:
            await self._audit_log.note("session.refused", peer_worker_id or claimed[:MAX_NAME], refusal.message)
            raise


class StoredIntent:
    """Implements ``router.fleet.control.Intent``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def set_cordoned(self, worker_id: str, cordoned: bool) -> None:
        """Remember a cordon, or lift it."""
        await self._store.set_cordoned(worker_id, cordoned)
        await self._audit("worker.cordoned" if cordoned else "worker.uncordoned", worker_id, "")

    async def revoke(self, worker_id: str, node: str, reason: str) -> None:
        """Remember a revocation for good."""
        await self._store.revoke(worker_id, node, reason, self._clock.wall())
        await self._audit("worker.revoked", worker_id, reason)

    async def refuse_model(self, worker_id: str, node: str, model: str) -> None:
        """Remember that a worker may not serve a model."""
        await self._store.refuse_model(worker_id, node, model)
        await self._audit("worker.model_refused", worker_id, model)

    async def worker_named(self, node: str) -> str | None:
        """The id of a worker that is known by this node name or id."""
        workers = await self._store.workers()
        return next((one.worker_id for one in workers if node in (one.worker_id, one.node)), None)

    async def _audit(self, event: str, subject: str, reason: str) -> None:
        await self._store.audit(AuditLine(at=self._clock.wall(), event=event, subject=subject, reason=reason))


def _refuse_revoked(record: WorkerRow) -> None:
    if record.revoked_at is not None:
        raise NotAllowed(f"this worker was revoked: {record.revoked_reason or 'no reason given'}")
