"""The asynchronous side of admission: requests wait here until admission gives its verdict.

Admission itself is pure. This room feeds it arrivals, pumps it whenever the fleet changes or a time it named
comes, and turns verdicts into results.
"""

import asyncio
import time
from collections.abc import Callable

from protos.contract.ids import RequestId, WorkerId
from router.domain.clock import Clock
from router.domain.placement import FilterName, Placed
from router.domain.request import InferenceRequest
from router.errors import (
    AllsortsError,
    ContextLengthExceeded,
    DeadlineExceeded,
    OutOfReach,
    RateLimited,
    Unavailable,
    UnknownModel,
    UnsupportedParameter,
)
from router.fleet.membership import Membership
from router.scheduling.admission.interfaces import AdmissionControl, Dispatch, Shed, Verdict


class WaitingRoom:
    """Hands each request its placement, or the reason why there is none."""

    def __init__(
        self,
        *,
        admission: AdmissionControl,
        membership: Membership,
        clock: Clock,
        decided: Callable[[float], None] = lambda _: None,
        given_up: Callable[[InferenceRequest, Placed], None] = lambda _request, _placed: None,
    ) -> None:
        self._given_up = given_up  # hears of each placement whose request had left meanwhile
        self._decided = decided  # hears the seconds each decision took
        self._admission = admission
        self._membership = membership
        self._clock = clock
        self._waiting: dict[RequestId, tuple[InferenceRequest, asyncio.Future[Placed]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pump_scheduled = False
        membership.on_change(self._fleet_changed)

    async def place(
        self,
        request: InferenceRequest,
        *,
        avoid: frozenset[WorkerId] = frozenset(),
        continuation: bool = False,
        again: bool = False,
    ) -> Placed:
        """Wait for a placement; capacity is claimed when it returns. ``again``: after a conflict.

        Raises UnknownModel, RateLimited, DeadlineExceeded or Unavailable, each with its reasons.
        """
        future: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = (request, future)
        try:
            self._admission.arrive(request, self._clock.now(), avoid=avoid, continuation=continuation, again=again)
            self._pump()
            return await future
        except BaseException:
            self._admission.cancel(request.request_id)
            if future.done() and not future.cancelled() and future.exception() is None:
                self._membership.release(future.result().worker_id, request.request_id)
                self._given_up(request, future.result())
            raise
        finally:
            self._waiting.pop(request.request_id, None)

    @property
    def queued(self) -> int:
        """Requests without a verdict."""
        return len(self._waiting)

    def _fleet_changed(self, worker_id: WorkerId) -> None:  # noqa: ARG002 - the listener's signature
        if self._waiting and not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while self._waiting:
            started = time.perf_counter()
            verdicts = self._admission.pump(self._membership.snapshot(), self._clock.now())
            if verdicts:
                self._decided((time.perf_counter() - started) / len(verdicts))
            for verdict in verdicts:
                self._settle(verdict)
            if not any(isinstance(verdict, Dispatch) for verdict in verdicts):
                break
        self._set_timer()

    def _settle(self, verdict: Verdict) -> None:
        request, future = self._waiting.pop(verdict.request_id, (None, None))
        if request is None or future is None or future.done():
            if request is not None and isinstance(verdict, Dispatch):
                self._given_up(request, verdict.placed)
            return
        if isinstance(verdict, Dispatch):
            self._membership.reserve(
                verdict.placed.worker_id,
                request.request_id,
                max(0, request.prompt_tokens_estimate - verdict.placed.prediction.cached_tokens),
                request.expected_output_tokens,
            )
            future.set_result(verdict.placed)
        else:
            future.set_exception(error_of(verdict))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._admission.next_wakeup()
        if at is not None and self._waiting:
            delay = max(0.001, at - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._pump)


def error_of(shed: Shed) -> AllsortsError:
    """The error a client sees for a request that was shed; it carries what placement said of every worker."""
    error = _error_of(shed)
    error.no_candidate = shed.no_candidate
    return error


def _error_of(shed: Shed) -> AllsortsError:
    if shed.code == "unknown_model":
        return UnknownModel(shed.reason, param="model")
    if shed.code == "rate_limited":
        return RateLimited(shed.reason, retry_after_s=shed.retry_after_s)
    if shed.code == "deadline":
        return DeadlineExceeded(shed.reason, retry_after_s=shed.retry_after_s)
    if shed.code == "out_of_reach":
        return OutOfReach(shed.reason)
    exclusions = () if shed.no_candidate is None else shed.no_candidate.exclusions
    filters = {one.filter for one in exclusions} - {FilterName.MODEL}  # empty: all workers of the model are gone
    if shed.code == "no_worker" and filters and all(one.lasting for one in filters):
        return _lasting(shed, filters)
    return Unavailable(shed.reason, retry_after_s=shed.retry_after_s or 1.0)


def _lasting(shed: Shed, filters: set[FilterName]) -> AllsortsError:
    """What waiting does not cure: ``filters`` removed every worker of the model."""
    if all(one.from_model_name for one in filters):
        return UnknownModel(f"no worker serves the model as it is asked for: {shed.reason}", param="model")
    left = {one for one in filters if not one.from_model_name} - {FilterName.LABELS}
    if left == {
        FilterName.CONTEXT
    }:  # by the estimate, with room for its error; a worker would say the same with exact counts
        return ContextLengthExceeded(f"prompt and max_tokens are too long for every worker: {shed.reason}")
    if left == {FilterName.CAPABILITY}:
        return UnsupportedParameter(f"no worker of this model can do that: {shed.reason}")
    return OutOfReach(shed.reason)
