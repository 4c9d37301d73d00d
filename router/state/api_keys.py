"""API keys: their rules, making one, and its hash. ``sk-as-`` and 256 random bits, shown once."""

import hashlib
import secrets
from typing import Annotated, Any

import msgspec

from router.domain.ids import Tenant
from router.domain.principal import Principal, Scope
from router.domain.request import SloTargets
from router.state.rows import KeyRow

PREFIX = "sk-as-"

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class KeyRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may say about a key."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)] = (Scope.SERVE,)
    ttl_s: _Seconds | None = None
    labels: dict[str, str] = {}
    cache_group: Annotated[str, msgspec.Meta(max_length=100)] = ""
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0
    ttft_s: _Seconds | None = None
    ttft_per_prompt_token_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    tpot_s: _Seconds | None = None
    quality_floor: str | None = None
    never_quantized: bool = False
    requests_per_minute: _Positive | None = None
    tokens_per_minute: _Positive | None = None


def new_key(rules: KeyRules, *, key_id: str, now: float) -> tuple[str, KeyRow]:
    """The secret, and the record to keep of it."""
    secret = PREFIX + secrets.token_urlsafe(32)
    record = KeyRow(
        key_id=key_id,
        name=rules.name,
        secret_sha256=secret_hash(secret),
        scopes=tuple(scope.value for scope in rules.scopes),
        created_at=now,
        expires_at=None if rules.ttl_s is None else now + rules.ttl_s,
        cache_group=rules.cache_group,
        required_labels=rules.labels,
        priority=rules.priority,
        ttft_s=rules.ttft_s,
        ttft_per_prompt_token_s=rules.ttft_per_prompt_token_s,
        tpot_s=rules.tpot_s,
        quality_floor=rules.quality_floor,
        never_quantized=rules.never_quantized,
        requests_per_minute=rules.requests_per_minute,
        tokens_per_minute=rules.tokens_per_minute,
    )
    return secret, record


def secret_hash(secret: str) -> str:
    """SHA-256, hex. The secret has 256 random bits: a slow hash would protect nothing and cost every request."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def public_view(record: KeyRow) -> dict[str, Any]:
    """A key as it may be shown: without the hash."""
    view: dict[str, Any] = msgspec.to_builtins(record)
    del view["secret_sha256"]
    return view


def cache_salt(record: KeyRow) -> str:
    """What keeps the caches of tenants apart: whose prompts were computed before can be told from how fast the same
    ones begin, and from the cached tokens of a bill.
    """
    shared = f"group:{record.cache_group}" if record.cache_group else f"tenant:{record.name}"
    return hashlib.sha256(shared.encode()).hexdigest()[:32]


def principal_of(record: KeyRow) -> Principal:
    """The caller a key speaks for; keys of one name are one tenant."""
    has_targets = record.ttft_s is not None or record.tpot_s is not None
    return Principal(
        tenant=Tenant(record.name),
        scopes=frozenset(Scope(scope) for scope in record.scopes),
        key_id=record.key_id,
        cache_salt=cache_salt(record),
        required_labels=tuple(sorted(record.required_labels.items())),
        priority=record.priority,
        slo=SloTargets(
            ttft_s=record.ttft_s, ttft_per_prompt_token_s=record.ttft_per_prompt_token_s, tpot_s=record.tpot_s
        )
        if has_targets
        else None,
        quality_floor=record.quality_floor,
        never_quantized=record.never_quantized,
        requests_per_minute=record.requests_per_minute,
        tokens_per_minute=record.tokens_per_minute,
    )
