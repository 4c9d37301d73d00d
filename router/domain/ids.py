"""Names that must not be mixed up, as distinct types."""

import secrets
from typing import NewType

from protos.contract.ids import RequestId

ReplicaId = NewType("ReplicaId", str)
"""One router replica."""

Tenant = NewType("Tenant", str)
"""Whose request it is: the owner of the API key."""

ANONYMOUS = Tenant("anonymous")


def new_request_id(prefix: str = "req") -> RequestId:
    """A fresh identifier with 96 random bits: short enough to paste, long enough not to collide."""
    return RequestId(f"{prefix}-{secrets.token_hex(12)}")
