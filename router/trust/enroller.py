"""Who lets machines in, whatever the transport."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protos.contract.joining.enrolment import EnrolRefused, EnrolReply, EnrolRequest, ModelOffer, RenewReply
from protos.contract.worker import ModelInstance, Profile

Offers = Callable[[Profile, Sequence[ModelInstance]], Iterable[ModelOffer]]
"""What fits a machine and is wanted, best first, then of the files it has what fits; ``router.capacity`` knows."""


def no_offers(profile: Profile, files: Sequence[ModelInstance]) -> tuple[ModelOffer, ...]:  # noqa: ARG001
    """Nothing is known of what would fit."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who asks. ``address`` is gRPC's, such as ``ipv4:127.0.0.1:4711``."""

    address: str
    worker_id: str | None = None  # in its client certificate


class Enroller(Protocol):
    """Answers Enrol and Renew. A store that is away raises StoreFailed."""

    async def enrol(self, request: EnrolRequest, peer: Peer) -> EnrolReply | EnrolRefused:
        """A token and a certificate request for a certificate."""
        ...

    async def renew(self, certificate_request: bytes, peer: Peer) -> RenewReply | EnrolRefused:
        """A certificate request (PEM) for a fresh certificate."""
        ...
