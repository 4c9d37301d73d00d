"""What one check found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's result. ``hint`` is set when it failed (or, for a warning, is worth acting on)."""

    check: str
    ok: bool
    detail: str
    hint: str = ""
