"""Bodies of the operator's requests. The OpenAPI document is made from these types, so both always agree."""

from typing import Annotated

import msgspec
from msgspec import Meta

from router.fleet.desired.values import DesiredState


class NodeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/undrain`` and ``/admin/cordon``: a node's name or a worker's id."""

    node: Annotated[str, Meta(min_length=1, max_length=128)]


class DrainRequest(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/drain``."""

    deadline_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class RevokeRequest(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/revoke``."""

    reason: Annotated[str, Meta(max_length=500)] = "revoked by the operator"
    model: Annotated[str, Meta(max_length=200)] = ""  # of this alone; empty: the machine is cut off


class DesiredRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/desired`` and ``/admin/desired/plan``. ``version``: of the state that it replaces."""

    state: DesiredState
    version: Annotated[int, Meta(ge=0)] = 0


class RemoveRequest(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/models/remove``: a model by its name, or by the beginning of the hash of its content."""

    model: Annotated[str, Meta(max_length=200)] = ""
    quantization: Annotated[str, Meta(max_length=64)] = ""
    content: Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$")] = ""


class PullRequest(RemoveRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/models/pull``. ``sources``: best first: "pool", a URL, or hf:OWNER/REPOSITORY/FILE; none: pool."""

    sources: Annotated[list[Annotated[str, Meta(min_length=1, max_length=2000)]], Meta(max_length=8)] = []


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /admin/tokens``."""

    ttl_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 3600.0
    uses: Annotated[int, Meta(ge=1, le=10_000)] = 1
    labels: dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]] = {}
    models: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=64)] = ()
