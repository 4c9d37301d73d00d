"""Why requests were rejected lately, worker by worker: for operators, who ask by request id. Clients get a summary."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog

from router.domain.placement import Exclusions
from router.errors import AllsortsError

log = structlog.get_logger()

MAX_REJECTIONS = 1024
"""Remembered; the oldest go first."""

MAX_EXCLUSIONS = 65_536
"""Remembered over all rejections."""


@dataclass(slots=True)
class _Rejection:
    code: str
    message: str
    exclusions: Exclusions


@dataclass(slots=True)
class RejectionLog:
    """The latest rejections of one router replica. Those whose reason was no worker's are not kept."""

    _kept: OrderedDict[str, _Rejection] = field(default_factory=OrderedDict)
    _rows: int = 0

    def note(self, request_id: str, error: AllsortsError) -> None:
        """Remember and log a rejection, if placement had its reasons."""
        if error.no_candidate is None:
            return
        found = error.no_candidate.exclusions
        log.info("request.refused", request_id=request_id, code=error.code, reason=error.message, excluded=len(found))
        log.debug("request.excluded", request_id=request_id, workers=[f"{e.node}: {e.reason}" for e in found])
        before = self._kept.pop(request_id, None)
        self._rows += len(found) - (len(before.exclusions) if before else 0)
        self._kept[request_id] = _Rejection(error.code, error.message, found)
        while len(self._kept) > MAX_REJECTIONS or (self._rows > MAX_EXCLUSIONS and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            self._rows -= len(oldest.exclusions)

    def find(self, request_id: str) -> dict[str, Any] | None:
        """What was said about a request, JSON-ready."""
        rejection = self._kept.get(request_id)
        if rejection is None:
            return None
        return {
            "code": rejection.code,
            "message": rejection.message,
            "exclusions": [
                {
                    "worker": one.worker_id,
                    "node": one.node,
                    "quantization": one.quantization,
                    "filter": one.filter,
                    "reason": one.reason,
                }
                for one in rejection.exclusions
            ],
        }
