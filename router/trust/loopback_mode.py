"""The pool that needs no secrets: plain text, loopback only, nothing stored.

Compose it as ``gate = OpenGate(is_live=lambda worker_id: membership.session_of(worker_id) is not None)`` and
``enroller = OpenEnroller(gate, replicas=lambda: service.replicas)``; both refuse peers beyond loopback.
Operator intent (cordons, revocations) is kept for as long as the router runs: ``OpenGate`` is also an ``Intent``.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.addresses import is_loopback, peer_host
from protos.contract.ids import WorkerId
from router.errors import NotAllowed
from router.sessions.validation import MAX_NAME
from router.trust.gate import Admitted

Offers = Callable[[pb.Profile, Sequence[pb.ModelInstance]], Iterable[pb.ModelOffer]]
"""What fits a machine and is wanted, best first, then of the files it has what fits; ``router.capacity`` knows."""


def no_offers(profile: pb.Profile, files: Sequence[pb.ModelInstance]) -> tuple[pb.ModelOffer, ...]:  # noqa: ARG001
    """Nothing is known of what would fit."""
    return ()


IDS_LIMIT = 16_384
"""Ids remembered; past it, the oldest that are not live are forgotten (their workers may still claim them)."""

ID_NAME_LENGTH = 50
"""Characters of a node's name in its worker id: the id is a certificate's common name, of which X.509 keeps 64."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ISSUED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,70})-[0-9a-f]{12}")
_CLAIM = re.compile(r"[\x21-\x7e]{1,128}")


def clean_node_name(name: str) -> str:
    """A machine's name as it may appear in tables and logs: letters, digits, dot, dash; never empty."""
    found = _NAME.match(re.sub(r"[^A-Za-z0-9_.-]+", "-", name[:MAX_NAME]).strip("-._"))
    return found.group() if found else "node"


def new_worker_id(node: str) -> WorkerId:
    """An id that carries the node's name (its beginning, if it is long) and 48 random bits."""
    return WorkerId(f"{node[:ID_NAME_LENGTH].rstrip('-._')}-{secrets.token_hex(6)}")


@dataclass(slots=True)
class _Issued:
    node: str
    key: tuple[str, str, str]
    seen: bool = False  # it has said hello


class OpenGate:
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
        if len(self._issued) >= IDS_LIMIT:
            for worker_id in [one for one in self._issued if not self._is_live(one)][: IDS_LIMIT // 4]:
                del self._issued[worker_id]


class OpenEnroller:
    """Enrol without a token; Renew means nothing without certificates."""

    def __init__(
        self, gate: OpenGate, *, replicas: Callable[[], Iterable[pb.Replica]], offers: Offers = no_offers
    ) -> None:
        self._gate = gate
        self._replicas = replicas
        self._offers = offers

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802 - gRPC's name
        """A worker id, the replicas to dial, and what this machine could serve."""
        peer = context.peer()
        if not (peer.startswith("unix:") or is_loopback(peer_host(peer))):
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                "this pool is open to its own machine only; join it with `allsorts join HOST:PORT --token …`",
            )
        profile = request.profile
        worker_id = self._gate.issue(request.node or profile.node, profile.engine, profile.hardware.name)
        return pb.EnrolReply(
            worker_id=worker_id, replicas=self._replicas(), offers=self._offers(profile, request.files)
        )

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: N802, ARG002 - gRPC's
        """Refused: there are no certificates here."""
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this pool uses no certificates")
        return pb.RenewReply()
