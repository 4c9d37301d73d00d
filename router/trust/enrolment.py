"""Letting machines in: a join token and a certificate request for a certificate, and renewing it.

The token is asked for once. Afterwards the machine is known by its key: a request signed with it, without a token,
is answered with a fresh certificate (a Mac whose lid was closed for a week comes back), until it is revoked. Every
refusal says why to the one who holds the token, and leaves an audit line.
"""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import grpc
import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.join_token import BadToken, JoinToken, parse_token
from router.domain.clock import Clock
from router.errors import NotAllowed
from router.state.backend import StoreFailed
from router.state.join_rules import JoinRefused
from router.state.rows import WorkerRecord
from router.state.store import Store
from router.trust.audit import AuditTrail
from router.trust.authority import Authority, BadRequest, request_fingerprint
from router.trust.loopback_mode import Offers, clean_node_name, new_worker_id, no_offers
from router.trust.peers import peer_worker_id

log = structlog.get_logger()

PROTOCOL_VERSION = 1


class TokenEnroller:
    """Implements ``router.sessions.service.Enroller`` over the store and the CA."""

    def __init__(
        self,
        *,
        store: Store,
        authority: Authority,
        clock: Clock,
        replicas: Callable[[], Iterable[pb.Replica]],
        offers: Offers = no_offers,
    ) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock
        self._replicas = replicas
        self._offers = offers
        self._trail = AuditTrail(store, clock)

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802 - gRPC's name
        """A certificate, for a token or for a key that is known.

        A token without a certificate request is only examined (``allsorts doctor`` asks): nothing is used up.
        """
        node = clean_node_name(request.node or request.profile.node)
        try:
            _check_version(request.protocol_version)
            if request.token and not request.certificate_request:
                await self._examine(request.token)
                return pb.EnrolReply(authority=self._authority.certificate_pem, replicas=self._replicas())
            fingerprint = request_fingerprint(request.certificate_request)
            worker = await self._admit(request.token, node, fingerprint)
            certificate = self._authority.sign_worker(request.certificate_request, worker.worker_id, self._clock.wall())
        except (NotAllowed, BadRequest, BadToken) as refusal:
            await self._refuse(context, "join.refused", node, str(refusal))
        except StoreFailed as error:
            await _try_later(context, error)
        await self._trail.note("join.admitted", worker.worker_id, f"node {worker.node}", peer=context.peer())
        log.info("join.admitted", worker=worker.worker_id, node=worker.node, peer=context.peer())
        return pb.EnrolReply(
            worker_id=worker.worker_id,
            certificate=certificate.pem,
            authority=self._authority.certificate_pem,
            replicas=self._replicas(),
            expires_at_unix_s=certificate.expires_at_unix_s,
            offers=self._offers(request.profile, request.files),
        )

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: N802 - gRPC's name
        """A fresh certificate for the worker whose certificate the connection shows, and for its own key only."""
        worker_id = peer_worker_id(context) or ""
        try:
            worker = await self._store.worker(worker_id) if worker_id else None
            if worker is None:
                raise NotAllowed("this connection shows no certificate of a worker that was let in")
            _refuse_revoked(worker)
            if request_fingerprint(request.certificate_request) != worker.key_fingerprint:
                raise NotAllowed("the certificate request is for another key than the one this worker joined with")
            certificate = self._authority.sign_worker(request.certificate_request, worker_id, self._clock.wall())
        except (NotAllowed, BadRequest) as refusal:
            await self._refuse(context, "renew.refused", worker_id, str(refusal))
        except StoreFailed as error:
            await _try_later(context, error)
        log.info("certificate.renewed", worker=worker_id)
        return pb.RenewReply(certificate=certificate.pem, expires_at_unix_s=certificate.expires_at_unix_s)

    async def _admit(self, token_text: str, node: str, fingerprint: str) -> WorkerRecord:
        if not token_text:
            known = await self._store.worker_by_key(fingerprint)
            if known is None:
                raise NotAllowed("this machine is not known here and brought no token; join with --token")
            _refuse_revoked(known)
            return known
        token = self._parse(token_text)
        candidate = WorkerRecord(worker_id=new_worker_id(node), node=node, key_fingerprint=fingerprint)
        answer = await self._store.redeem(token.token_id, token.secret_sha256(), candidate, self._clock.wall())
        if isinstance(answer, JoinRefused):
            raise NotAllowed(answer.reason)
        return answer

    async def _examine(self, token_text: str) -> None:
        token = self._parse(token_text)
        refused = await self._store.examine(token.token_id, token.secret_sha256(), self._clock.wall())
        if refused is not None:
            raise NotAllowed(refused.reason)

    def _parse(self, token_text: str) -> JoinToken:
        token = parse_token(token_text)
        if not token.is_for(self._authority.fingerprint):
            raise NotAllowed("the token is of another pool; make one with `allsorts token create` on this head")
        return token

    async def _refuse(self, context: Any, event: str, subject: str, reason: str) -> NoReturn:
        log.warning(event, subject=subject, peer=context.peer(), reason=reason)
        await self._trail.note(event, subject, reason, peer=context.peer())
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        raise AssertionError("abort raises")


async def _try_later(context: Any, error: StoreFailed) -> NoReturn:
    log.error("enrolment.failed", reason=str(error))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the router cannot read its store now; try again later")
    raise AssertionError("abort raises")


def _refuse_revoked(worker: WorkerRecord) -> None:
    if worker.revoked_at is not None:
        raise NotAllowed(f"this machine was revoked: {worker.revoked_reason or 'no reason given'}")


def _check_version(version: int) -> None:
    if version < PROTOCOL_VERSION:
        raise NotAllowed(f"the worker speaks protocol {version}, this router {PROTOCOL_VERSION}; update the worker")
