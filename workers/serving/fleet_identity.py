"""The name a worker has in its fleet, and asking for one."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import EnrolReply

ENROLMENT_HOLDS_S = 5.0
"""A worker turned away so soon after it enrolled is not wanted: asking again would go on for ever."""


class FleetIdentity:
    """``enrol`` asks the fleet for an identity: at the start when there is none, and again whenever a router says that
    it does not know the worker. None: the identity given is the only one.
    """

    def __init__(
        self,
        worker_id: str,
        enrol: Callable[[], Coroutine[Any, Any, EnrolReply]] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = WorkerId(worker_id)
        self._enrol = enrol
        self._clock = clock
        self._enrolled_at: float | None = None  # in this process; None: the identity is from an earlier life

    @property
    def missing(self) -> bool:
        """Whether the worker must enrol before it can open a session."""
        return not self.worker_id and self._enrol is not None

    @property
    def fresh(self) -> bool:
        """Whether it was given to this very process: a router that dismisses it for good means this worker."""
        return self._enrolled_at is not None

    @property
    def just_given(self) -> bool:
        """Whether it is so fresh that asking again would be no use."""
        return self._enrolled_at is not None and self._clock() - self._enrolled_at < ENROLMENT_HOLDS_S

    @property
    def can_ask(self) -> bool:
        """Whether there is a way to ask."""
        return self._enrol is not None

    async def ask(self) -> EnrolReply:
        """Take the identity that the fleet gives. Raises what ``enrol`` raises."""
        assert self._enrol is not None
        enrolment = await self._enrol()
        self.worker_id = enrolment.worker_id
        self._enrolled_at = self._clock()
        return enrolment
