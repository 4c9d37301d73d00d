"""Why requests were refused lately, worker by worker: for operators, who ask by request id. Clients get a summary."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog

from router.domain.placement import Exclusion
from router.errors import AllsortsError

log = structlog.get_logger()

KEPT = 1024
"""Refusals remembered; the oldest go first."""

KEPT_ROWS = 65_536
"""Exclusions remembered over all refusals."""


@dataclass(slots=True)
class _Refusal:
    code: str
    message: str
    exclusions: tuple[Exclusion, ...]


@dataclass(slots=True)
class Refusals:
    """The latest refusals of one router replica. Those whose reason was no worker's are not kept."""

    _kept: OrderedDict[str, _Refusal] = field(default_factory=OrderedDict)
    _rows: int = 0

    def note(self, request_id: str, error: AllsortsError) -> None:
        """Remember and log a refusal, if placement had its reasons."""
        if error.no_candidate is None:
            return
        found = error.no_candidate.exclusions
        log.info("request.refused", request=request_id, code=error.code, reason=error.message, excluded=len(found))
        log.debug("request.excluded", request=request_id, workers=[f"{e.node}: {e.reason}" for e in found])
        before = self._kept.pop(request_id, None)
        self._rows += len(found) - (len(before.exclusions) if before else 0)
        self._kept[request_id] = _Refusal(error.code, error.message, found)
        while len(self._kept) > KEPT or (self._rows > KEPT_ROWS and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            self._rows -= len(oldest.exclusions)

    def find(self, request_id: str) -> dict[str, Any] | None:
        """What was said about a request, JSON-ready."""
        refusal = self._kept.get(request_id)
        if refusal is None:
            return None
        return {
            "code": refusal.code,
            "message": refusal.message,
            "exclusions": [
                {
                    "worker": one.worker_id,
                    "node": one.node,
                    "quantization": one.quantization,
                    "filter": one.filter,
                    "reason": one.reason,
                }
                for one in refusal.exclusions
            ],
        }
