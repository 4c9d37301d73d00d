"""Letting machines in: a join token and a certificate request for a certificate, and renewing it.

The token is asked for once. Afterwards the machine is known by its key, until it is revoked: a request signed with it
is answered with a fresh certificate. So a Mac whose lid was closed for a week comes back without a token. Every
refusal says why to the one who holds the token, and leaves an audit line.
"""

from collections.abc import Callable, Iterable

import structlog

from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import EnrolRefused, EnrolReply, EnrolRequest, ReasonCode, RenewReply
from protos.contract.joining.join_token import BadToken, JoinToken, parse_token
from protos.contract.joining.versions import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from protos.contract.worker import Replica
from router.domain.clock import Clock
from router.state.join_rules import refused_if_revoked
from router.state.rows import WorkerRow
from router.state.store import Store
from router.trust.audit_log import AuditLog
from router.trust.authority import Authority, BadRequest, request_fingerprint
from router.trust.enroller import Offers, Peer, no_offers
from router.trust.names import clean_node_name, new_worker_id

log = structlog.get_logger()


class TokenEnroller:
    """Implements ``router.trust.enroller.Enroller`` over the store and the CA."""

    def __init__(
        self,
        *,
        store: Store,
        authority: Authority,
        clock: Clock,
        replicas: Callable[[], Iterable[Replica]],
        offers: Offers = no_offers,
    ) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock
        self._replicas = replicas
        self._offers = offers
        self._audit_log = AuditLog(store, clock)

    async def enrol(self, request: EnrolRequest, peer: Peer) -> EnrolReply | EnrolRefused:
        """A certificate, for a token or for a key that is known.

        A token without a certificate request is only examined (``allsorts doctor`` asks): nothing is used up.
        """
        node = clean_node_name(request.profile.node)
        try:
            answer = await self._answer(request, node, peer)
        except BadRequest as error:
            answer = EnrolRefused(code=ReasonCode.CERTIFICATE_REQUEST, reason=str(error))
        if isinstance(answer, EnrolRefused):
            await self._note_refusal("join.refused", node, answer, peer)
        return answer

    async def _answer(self, request: EnrolRequest, node: str, peer: Peer) -> EnrolReply | EnrolRefused:
        """Raises BadRequest."""
        if request.protocol_version < OLDEST_PROTOCOL_VERSION:
            versions = f"the worker speaks protocol {request.protocol_version}, this router {PROTOCOL_VERSION}"
            return EnrolRefused(code=ReasonCode.PROTOCOL, reason=f"{versions}; update the worker")
        authority, replicas = self._authority.certificate_pem, tuple(self._replicas())
        if request.token and not request.certificate_request:
            refused = await self._examine(request.token)
            return refused or EnrolReply(worker_id=WorkerId(""), authority=authority, replicas=replicas)
        fingerprint = request_fingerprint(request.certificate_request)
        worker = await self._admit(request.token, node, fingerprint)
        if isinstance(worker, EnrolRefused):
            return worker
        certificate = self._authority.sign_worker(request.certificate_request, worker.worker_id, self._clock.wall())
        await self._audit_log.note("join.admitted", worker.worker_id, f"node {worker.node}", peer=peer.address)
        log.info("join.admitted", worker=worker.worker_id, node=worker.node, peer=peer.address)
        return EnrolReply(
            worker_id=WorkerId(worker.worker_id),
            certificate=certificate.pem,
            authority=authority,
            replicas=replicas,
            expires_at_unix_s=certificate.expires_at_unix_s,
            offers=tuple(self._offers(request.profile, request.files)),
        )

    async def renew(self, certificate_request: bytes, peer: Peer) -> RenewReply | EnrolRefused:
        """A fresh certificate for the worker whose certificate the connection shows, and for its own key only."""
        worker_id = peer.worker_id or ""
        try:
            answer = await self._renewed(certificate_request, worker_id)
        except BadRequest as error:
            answer = EnrolRefused(code=ReasonCode.CERTIFICATE_REQUEST, reason=str(error))
        if isinstance(answer, EnrolRefused):
            await self._note_refusal("renew.refused", worker_id, answer, peer)
        else:
            log.info("certificate.renewed", worker=worker_id)
        return answer

    async def _renewed(self, certificate_request: bytes, worker_id: str) -> RenewReply | EnrolRefused:
        """Raises BadRequest."""
        worker = await self._store.worker(worker_id) if worker_id else None
        if worker is None:
            reason = "this connection shows no certificate of a worker that was let in"
            return EnrolRefused(code=ReasonCode.NOT_ENROLLED, reason=reason)
        if (refused := refused_if_revoked(worker)) is not None:
            return refused
        if request_fingerprint(certificate_request) != worker.key_fingerprint:
            reason = "the certificate request is for another key than the one this worker joined with"
            return EnrolRefused(code=ReasonCode.OTHER_KEY, reason=reason)
        certificate = self._authority.sign_worker(certificate_request, worker_id, self._clock.wall())
        return RenewReply(certificate=certificate.pem, expires_at_unix_s=certificate.expires_at_unix_s)

    async def _admit(self, token_text: str, node: str, fingerprint: str) -> WorkerRow | EnrolRefused:
        if not token_text:
            known = await self._store.worker_by_key(fingerprint)
            if known is None:
                reason = "this machine is not known here and brought no token; join with --token"
                return EnrolRefused(code=ReasonCode.NOT_ENROLLED, reason=reason)
            return refused_if_revoked(known) or known
        token = self._parse(token_text)
        if isinstance(token, EnrolRefused):
            return token
        candidate = WorkerRow(worker_id=new_worker_id(node), node=node, key_fingerprint=fingerprint)
        return await self._store.redeem(token.token_id, token.secret_sha256(), candidate, self._clock.wall())

    async def _examine(self, token_text: str) -> EnrolRefused | None:
        token = self._parse(token_text)
        if isinstance(token, EnrolRefused):
            return token
        return await self._store.examine(token.token_id, token.secret_sha256(), self._clock.wall())

    def _parse(self, token_text: str) -> JoinToken | EnrolRefused:
        try:
            token = parse_token(token_text)
        except BadToken as error:
            return EnrolRefused(code=ReasonCode.TOKEN_DAMAGED, reason=str(error))
        if not token.is_for(self._authority.fingerprint):
            reason = "the token is of another pool; make one with `allsorts token create` on this head"
            return EnrolRefused(code=ReasonCode.OTHER_POOL, reason=reason)
        return token

    async def _note_refusal(self, event: str, subject: str, refused: EnrolRefused, peer: Peer) -> None:
        log.warning(event, subject=subject, peer=peer.address, code=refused.code, reason=refused.reason)
        await self._audit_log.note(event, subject, refused.reason, peer=peer.address)
