"""What the store keeps, as msgspec structs: they are written to disk, so their field names are a format.

New fields need defaults; old files are read by newer routers. Times are Unix seconds.
"""

import msgspec


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key and the rules its requests come under. The secret itself is nowhere."""

    key_id: str
    name: str
    secret_sha256: str  # of a secret with 256 random bits: nothing to guess, so no slow hash is needed
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    cache_group: str = ""  # keys of one group share caches; empty: those of one tenant
    required_labels: dict[str, str] = {}  # prompts go only to workers with these labels
    priority: int = 0
    ttft_s: float | None = None
    ttft_per_prompt_token_s: float = 0.0
    tpot_s: float | None = None
    quality_floor: str | None = None
    never_quantized: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A join token."""

    token_id: str
    secret_sha256: str
    expires_at: float
    uses: int  # how many different machines it lets in
    labels: dict[str, str] = {}
    models: tuple[str, ...] = ()  # names or patterns of those its machines may serve; empty: any
    created_at: float = 0.0
    used_by: dict[str, str] = {}  # fingerprint of the machine's key -> worker id


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was let in, known by its key for as long as it is not revoked."""

    worker_id: str
    node: str  # unique in the pool
    key_fingerprint: str  # SHA-256 of its public key
    labels: dict[str, str] = {}
    models: tuple[str, ...] = ()  # names or patterns of those it may serve; empty: any
    refused_models: tuple[str, ...] = ()  # taken from it by an operator
    enrolled_at: float = 0.0
    token_id: str = ""
    cordoned: bool = False
    revoked_at: float | None = None
    revoked_reason: str = ""


class AuthorityRow(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's CA. Whoever reads this can let anything in: it is why the store's file is private."""

    key_pem: bytes
    certificate_pem: bytes


class ResponseRow(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the Responses API that its asker may come back to, as it was sent, and the items it answered."""

    response_id: str
    response: msgspec.Raw
    items: msgspec.Raw  # a list, those before it included
    expires_at: float = 0.0


class DesiredRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants of the fleet. ``state``: JSON, as ``router.fleet.desired`` reads it."""

    version: int  # grows by one with every change; 0: nothing was ever wanted
    state: str
    applied_at: float = 0.0


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person may ask about later. Never holds a secret."""

    at: float
    event: str  # "join.admitted", "join.refused", "worker.revoked", "token.created", "key.created", ...
    subject: str = ""  # node, worker, key or token id
    peer: str = ""
    reason: str = ""
