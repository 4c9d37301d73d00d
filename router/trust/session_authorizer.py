"""Who may hold a session: asked at every hello, whatever the transport."""

from dataclasses import dataclass, field
from typing import Protocol

from protos.contract.ids import WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The worker may come in. ``labels`` were given at enrolment and win over those it claims."""

    worker_id: WorkerId
    node: str = ""  # the unique name given at enrolment; empty: the one it claims
    labels: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()  # names or patterns of those it may serve; empty: any
    refused_models: tuple[str, ...] = ()  # taken from it by an operator
    believed: bool = True  # whether its speeds count as it claims them; not of machines that come from elsewhere
    own_labels: bool = True  # whether labels it claims itself count; not where labels say who may see prompts
    cordoned: bool = False


class SessionAuthorizer(Protocol):
    """Decides about a hello. ``peer_worker_id`` is what the client certificate says; None on plain loopback."""

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:
        """Raises NotAllowed with the reason (revoked, not enrolled, certificate of another worker)."""
        ...
