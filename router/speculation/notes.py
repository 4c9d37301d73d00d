"""Who drafts for whom, and why others go without: for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.contract.ids import WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftNotes:
    """By worker. ``drafts_for``: a draft's targets; ``reasons``: why a draft is not asked, or a target has none."""

    drafts_for: Mapping[WorkerId, tuple[WorkerId, ...]] = field(default_factory=dict)
    reasons: Mapping[WorkerId, str] = field(default_factory=dict)


NO_NOTES = DraftNotes()
