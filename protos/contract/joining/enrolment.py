"""How a machine is let in: what it asks, and what the router answers."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.ids import WorkerId
from protos.contract.worker import ModelInstance, Profile, Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOffer:
    """One model at one quantization that the router thinks a machine should serve, with the speed it expects of it."""

    model: str
    quantization: str
    tokens_per_s: float
    prefill_tokens_per_s: float
    memory_bytes: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """A join token and a certificate request; on a plain loopback pool neither."""

    token: str = ""
    certificate_request: bytes = b""  # PEM
    profile: Profile  # its node: the name the owner gives this machine
    protocol_version: int = 0
    files: tuple[ModelInstance, ...] = ()  # model files on this machine, as their headers tell


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolReply:
    """A name for life, where the replicas listen, and with TLS a certificate."""

    worker_id: WorkerId
    certificate: bytes = b""  # PEM
    authority: bytes = b""  # PEM of the pool's CA
    replicas: tuple[Replica, ...] = ()
    expires_at_unix_s: float = 0.0
    offers: tuple[ModelOffer, ...] = ()  # what fits this machine and is wanted, best first; then what it has besides


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewReply:
    """A fresh certificate."""

    certificate: bytes = b""  # PEM
    expires_at_unix_s: float = 0.0


class ReasonCode(StrEnum):
    """Why a machine is not let in, for whoever tells its owner what to do about it."""

    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 - no password
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - no password
    TOKEN_USED = "token_used"  # noqa: S105 - no password
    TOKEN_DAMAGED = "token_damaged"  # noqa: S105 - no password
    OTHER_POOL = "other_pool"
    NOT_ENROLLED = "not_enrolled"
    REVOKED = "revoked"
    OTHER_KEY = "other_key"
    CERTIFICATE_REQUEST = "certificate_request"
    PROTOCOL = "protocol"
    LOOPBACK_ONLY = "loopback_only"
    NO_CERTIFICATES = "no_certificates"


REASON_CODE_KEY = "allsorts-reason-code"
"""Trailing metadata of a call that was refused: its ``ReasonCode``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRefused:
    """A machine is not let in, or gets no fresh certificate; ``reason`` may be told to whoever asked."""

    code: ReasonCode
    reason: str
