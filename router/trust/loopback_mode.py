"""The pool that needs no secrets: plain text, loopback only, nothing stored.

``OpenAuthorizer`` and ``OpenEnroller`` both refuse peers beyond loopback. Operator intent (cordons, revocations) is
kept for as long as the router runs: ``OpenAuthorizer`` is also an ``Intent``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protos.contract.addresses import is_loopback, peer_host
from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import EnrolRefused, EnrolReply, EnrolRequest, ReasonCode
from protos.contract.validation import MAX_NAME
from protos.contract.worker import Replica
from router.errors import NotAllowed
from router.trust.enroller import Offers, Peer, no_offers
from router.trust.names import clean_node_name, new_worker_id
from router.trust.session_authorizer import Admitted

MAX_IDS = 16_384
"""Ids remembered; past it, the oldest that are not live are forgotten (their workers may still claim them)."""

_ISSUED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,70})-[0-9a-f]{12}")
_CLAIM = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class _Issued:
    node: str
    key: tuple[str, str, str]
    seen: bool = False  # it has said hello


class OpenAuthorizer:
    """Admits every id it issued and every well-formed id a worker on this machine claims; also keeps intent."""

    def __init__(self, *, is_live: Callable[[WorkerId], bool] = lambda _: False) -> None:
        self._is_live = is_live
        self._issued: dict[WorkerId, _Issued] = {}
        self._cordoned: set[str] = set()
        self._revoked: dict[str, str] = {}

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:  # noqa: ARG002 - no certificates here
        """Raises NotAllowed for an empty, malformed or revoked id."""
        if not _CLAIM.fullmatch(claimed):
            raise NotAllowed("the hello names no worker id; enrol first")
        if claimed in self._revoked:
            raise NotAllowed(f"this worker was revoked: {self._revoked[claimed]}")
        worker_id = WorkerId(claimed)
        issued = self._issued.get(worker_id)
        if issued is not None:
            issued.seen = True
            node = issued.node
        else:  # issued by another replica, or before this one started: its name is in the id
            found = _ISSUED.fullmatch(claimed)
            node = found.group(1) if found else ""
        return Admitted(worker_id=worker_id, node=node, cordoned=claimed in self._cordoned)

    def issue(self, node: str, engine: str, hardware: str) -> WorkerId:
        """An id. A worker that comes back without its id gets the one it had, unless a twin of it is live."""
        key = (clean_node_name(node), engine[:MAX_NAME], hardware[:MAX_NAME])
        for worker_id, issued in self._issued.items():
            if issued.key == key and issued.seen and worker_id not in self._revoked and not self._is_live(worker_id):
                issued.seen = False  # until its next hello: a twin that enrols meanwhile must get another
                return worker_id
        unique = self._unique(key[0])
        worker_id = new_worker_id(unique)
        self._make_room()
        self._issued[worker_id] = _Issued(unique, key)
        return worker_id

    async def set_cordoned(self, worker_id: str, cordoned: bool) -> None:
        """Remember a cordon, or lift it."""
        (self._cordoned.add if cordoned else self._cordoned.discard)(worker_id)

    async def revoke(self, worker_id: str, node: str, reason: str) -> None:  # noqa: ARG002 - Intent's signature
        """Remember a revocation until the router stops."""
        self._revoked[worker_id] = reason

    async def refuse_model(self, worker_id: str, node: str, model: str) -> None:
        """Nothing to remember: the store does."""

    async def worker_named(self, node: str) -> str | None:
        """The id of a worker that was issued one under this node name."""
        return next((one for one, issued in self._issued.items() if node in (one, issued.node)), None)

    def _unique(self, name: str) -> str:
        taken = {issued.node for issued in self._issued.values()}
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        return candidate

    def _make_room(self) -> None:
        if len(self._issued) >= MAX_IDS:
            for worker_id in [one for one in self._issued if not self._is_live(one)][: MAX_IDS // 4]:
                del self._issued[worker_id]


class OpenEnroller:
    """Enrol without a token; Renew means nothing without certificates."""

    def __init__(
        self, authorizer: OpenAuthorizer, *, replicas: Callable[[], Iterable[Replica]], offers: Offers = no_offers
    ) -> None:
        self._authorizer = authorizer
        self._replicas = replicas
        self._offers = offers

    async def enrol(self, request: EnrolRequest, peer: Peer) -> EnrolReply | EnrolRefused:
        """A worker id, the replicas to dial, and what this machine could serve."""
        if not (peer.address.startswith("unix:") or is_loopback(peer_host(peer.address))):
            reason = "this pool is open to its own machine only; join it with `allsorts join HOST:PORT --token …`"
            return EnrolRefused(code=ReasonCode.LOOPBACK_ONLY, reason=reason)
        profile = request.profile
        return EnrolReply(
            worker_id=self._authorizer.issue(profile.node, profile.engine, profile.hardware.name),
            replicas=tuple(self._replicas()),
            offers=tuple(self._offers(profile, request.files)),
        )

    async def renew(self, certificate_request: bytes, peer: Peer) -> EnrolRefused:  # noqa: ARG002 - Enroller's
        """Refused: there are no certificates here."""
        return EnrolRefused(code=ReasonCode.NO_CERTIFICATES, reason="this pool uses no certificates")
