"""A placement whose request has left goes back: no claim stays behind."""

import asyncio
from typing import cast

import pytest

from protos.contract.ids import RequestId, WorkerId
from router.config import FleetConfig
from router.dispatch.admission_queue import WaitingRoom
from router.domain.clock import ManualClock
from router.domain.placement import Placed
from router.domain.request import InferenceRequest
from router.fleet.membership import Membership
from router.scheduling.admission.interfaces import AdmissionControl, Dispatch, Verdict

PLACED = Placed(worker_id=WorkerId("w"), node="w", model="m", quantization="q8_0")


class _Asked:
    request_id = RequestId("r")
    prompt_tokens_estimate = 5
    expected_output_tokens = 5


REQUEST = cast("InferenceRequest", _Asked())


class _Admission:
    """Dispatches when told to."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.cancelled: list[str] = []

    def arrive(self, request: InferenceRequest, now: float, **_: object) -> None:
        """Waits."""

    def pump(self, snapshot: object, now: float) -> list[Verdict]:
        verdicts, self.verdicts = self.verdicts, []
        return verdicts

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def next_wakeup(self) -> None:
        """Never."""


@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_request_cancelled_in_the_tick_of_its_placement_gives_it_back(granted_first: bool) -> None:
    """Whichever of the two came first."""
    clock, admission = ManualClock(), _Admission()
    membership = Membership(FleetConfig(), clock)
    given_up: list[Placed] = []
    room = WaitingRoom(
        admission=cast("AdmissionControl", admission),
        membership=membership,
        clock=clock,
        given_up=lambda _, placed: given_up.append(placed),
    )
    waiting = asyncio.create_task(room.place(REQUEST))
    await asyncio.sleep(0)
    admission.verdicts = [Dispatch(request_id=REQUEST.request_id, placed=PLACED)]
    steps = [room._pump, waiting.cancel]
    for step in steps if granted_first else reversed(steps):
        step()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert given_up == [PLACED]
    assert room.queued == 0
