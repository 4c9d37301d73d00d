"""The asynchronous side of the scheduler: coroutines wait here for what it decides about their requests.

The scheduler is pure, and the order of who goes next is its own (``scheduling/admission``). This queue hands it events,
wakes it when the fleet changes or a time it named comes, and turns its instructions into the result, or the error, of
whoever waits for them.
"""

import asyncio
import time
from collections.abc import Callable

from protos.contract.ids import RequestId, WorkerId
from router.dispatch.errors_of import error_of
from router.domain.clock import Clock
from router.scheduling.events import Event, Instruction, Send, Tick, WakeAt
from router.scheduling.scheduler import Scheduler

MIN_SLEEP_S = 0.001
MAX_SLEEP_S = 1.0
"""While somebody waits: a breaker's pause ends without an event, and the workers of an idle fleet report nothing."""


class AdmissionQueue:
    """One per router replica, on its event loop."""

    def __init__(
        self, *, scheduler: Scheduler, clock: Clock, decided: Callable[[float], None] = lambda _: None
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._decided = decided  # hears the seconds each decision took
        self._waiting: dict[RequestId, asyncio.Future[Send]] = {}
        self._models: dict[RequestId, tuple[str, float]] = {}  # of those who wait: for which, since when
        self._held: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tick_scheduled = False

    def __len__(self) -> int:
        """Requests without a decision."""
        return len(self._waiting)

    def on_held(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when a request was not decided at once."""
        self._held = listener

    def demand(self) -> dict[str, tuple[int, float]]:
        """By model: how many wait for a decision, and for how many seconds the first of them does."""
        now, found = self._clock.now(), dict[str, tuple[int, float]]()
        for model, since in self._models.values():
            count, longest = found.get(model, (0, 0.0))
            found[model] = (count + 1, max(longest, now - since))
        return found

    def tell(self, event: Event) -> None:
        """Hand the scheduler an event and carry out what it answers."""
        started = time.perf_counter()
        instructions = self._scheduler.handle(event, self._clock.now())
        if not instructions:  # as of most events
            return
        decisions = [one for one in instructions if not isinstance(one, WakeAt)]
        if decisions:
            self._decided((time.perf_counter() - started) / len(decisions))
        for instruction in instructions:
            self._carry_out(instruction)

    async def ask(self, event: Event, request_id: RequestId, model: str = "") -> Send:
        """Hand the scheduler an event after which the request (for ``model``) waits for a decision; where to send it.

        Raises the error of a request that is refused: AllsortsError, with its reasons. Whoever is cancelled while it
        waits tells ``ClientLeft``.
        """
        future: asyncio.Future[Send] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self.tell(event)
            if not future.done():
                self._models[request_id] = (model, self._clock.now())
                if self._held is not None:
                    self._held()
            return await future
        finally:
            self._waiting.pop(request_id, None)
            self._models.pop(request_id, None)

    def fleet_changed(self, worker_id: WorkerId) -> None:  # noqa: ARG002 - the listener's signature
        """Somebody may find room now. Changes of one turn of the loop are looked at together."""
        if not self._tick_scheduled and not self._scheduler.idle:
            self._tick_scheduled = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_scheduled = False
        self.tell(Tick())

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, WakeAt):
            self._wake_at(instruction.at)
            return
        future = self._waiting.pop(instruction.request_id, None)
        if future is None or future.done():
            return  # it is being cancelled, and says so: the scheduler hears ClientLeft
        if isinstance(instruction, Send):
            future.set_result(instruction)
        else:
            future.set_exception(error_of(instruction))

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = min(max(MIN_SLEEP_S, at - self._clock.now()), MAX_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)
