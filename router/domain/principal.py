"""Who is asking, and what they are allowed."""

from dataclasses import dataclass
from enum import StrEnum

from router.domain.ids import ANONYMOUS, Tenant
from router.domain.request import SloTargets


class Scope(StrEnum):
    """What a key may do: ``serve`` sends requests, ``observe`` reads the fleet, ``admin`` changes it."""

    SERVE = "serve"
    OBSERVE = "observe"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller with the rules its key carries."""

    tenant: Tenant = ANONYMOUS
    scopes: frozenset[Scope] = frozenset(Scope)
    key_id: str = ""
    required_labels: tuple[tuple[str, str], ...] = ()  # its prompts go only to workers with these labels
    cache_salt: str = ""  # callers share what is cached of their prompts only where this is equal
    priority: int = 0
    slo: SloTargets | None = None
    quality_floor: str | None = None  # canonical quantization name
    never_quantized: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


LOCAL = Principal()
"""The caller when no keys exist: allowed everything, and only reachable on loopback."""
