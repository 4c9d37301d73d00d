"""Of a model that nobody serves now and an operator wants: whether it is brought up for this request."""

from dataclasses import replace

from router.domain.placement import FilterName, NoCandidate
from router.domain.request import InferenceRequest
from router.domain.snapshot import WantedModel

ABSENT = frozenset({FilterName.MODEL, FilterName.FAILED, FilterName.STATE, FilterName.CORDON})
"""Filters that say no more than that nobody serves it now."""


def brought_up(found: NoCandidate, request: InferenceRequest, wanted: WantedModel) -> NoCandidate:
    """With what is known of its coming. A request that somebody turned down for another reason waits for nothing."""
    pinned = request.model.pinned
    meant = pinned is None or not wanted.quantizations or pinned in wanted.quantizations
    if not meant or not found.exclusions.filters() <= ABSENT:
        return found
    return replace(found, coming=not wanted.blocked, blocked=wanted.blocked)
