"""Keeps the fleet as its operator wants it: looks, plans, carries out, and looks again."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from router.domain.clock import Clock
from router.errors import AllsortsError
from router.fleet.desired.file import check_state
from router.fleet.desired.values import NOTHING, DesiredState
from router.fleet.node_runner import RayNode, RunningWorker
from router.fleet.planning.foresight import Foreseen, foresee
from router.fleet.planning.observed import Observed
from router.fleet.planning.planner import plan
from router.fleet.planning.steps import Plan
from router.fleet.reconciling.desk import FleetDesk
from router.state.backend import StoreFailed
from router.state.rows import DesiredRow
from router.state.store import Store

log = structlog.get_logger()

EVERY_S = 1.0
"""Between two looks where nothing happens; time alone lets some steps become due."""

AT_ONCE_S = 0.05
"""After something happened: several changes are looked at together."""

SHARE = 10.0
"""Between two looks passes so many times what the last one took: tokens share this process."""

FEW_NODES = 16

SETTLED_AFTER_S = 5.0
"""A router that starts waits so long for workers that are on their way back, before it orders anything."""


EnsureController = Callable[[], Awaitable[None]]

CALLED_WITHIN_S = 3.0
"""A controller that asked for nothing for so long is looked for, and started where there is none."""

SILENT_S = 15.0
"""One that asked for nothing for so long is not waited for."""


class Changed(AllsortsError):
    """Somebody else changed the desired state meanwhile."""

    code = "conflict"
    kind = "invalid_request_error"
    http_status = 409


class Reconciler:
    """One per router replica. ``controller``: makes sure that there is one, which then calls ``driven``; None: this one
    leads by itself. ``leads_alone``: of several replicas the one that does while the controller is silent.
    """

    def __init__(
        self,
        *,
        store: Store,
        desk: FleetDesk,
        clock: Clock,
        controller: EnsureController | None = None,
        leads_alone: bool = True,
    ) -> None:
        self._store = store
        self._desk = desk
        self._clock = clock
        self._controller = controller
        self._leads_alone = leads_alone
        self._woken = asyncio.Event()
        self._started_at = clock.now()
        self.desired: DesiredState = NOTHING
        self._cluster: tuple[tuple[RayNode, ...], tuple[RunningWorker, ...]] = ((), ())
        self._driven_at = clock.now()
        self._keep_alive: dict[str, float] = {}  # by wanted model, as the last client asked
        self.version = 0
        self.applied_at = 0.0
        self.last = Plan()

    async def run(self) -> None:
        """Until cancelled."""
        self._desk.on_news(self.wake)
        while True:
            began = self._clock.now()
            try:
                await self.refresh()
                await self._look()
            except StoreFailed as error:
                log.warning("desired.not_read", reason=str(error))
            except Exception:  # the edge of the loop: one bad look must not be the last
                log.exception("fleet.plan_failed")
            await self._pause(SHARE * (self._clock.now() - began))

    async def _look(self) -> None:
        """Where a controller leads, it is made sure of; should it be silent for long, one replica leads meanwhile."""
        if self._controller is None:
            await self.step()
            return
        silent_s = self._clock.now() - self._driven_at
        if self.version and silent_s > CALLED_WITHIN_S:
            await self._controller()
        if (self._leads_alone and silent_s > SILENT_S) or self._somebody_waits():
            await self.step(*self._cluster)

    def _somebody_waits(self) -> bool:
        """Here, for a model that is wanted: the replica that the controller asks next may not know of it. A step that
        two replicas order is carried out once.
        """
        return any(self.desired.model(name) is not None for name in self._desk.observe().demand)

    async def refresh(self) -> None:
        """Read what is wanted, where somebody changed it."""
        row = await self._store.desired()
        if row is not None and row.version != self.version:
            self._take(row)

    async def step(self, nodes: tuple[RayNode, ...] = (), workers: tuple[RunningWorker, ...] = ()) -> Plan:
        """Look, plan, and carry out what concerns workers that are here. ``nodes`` and ``workers``: those of a cluster,
        whose steps are left to whoever asks.
        """
        if not self.version:
            return Plan()
        self._cluster = (nodes, workers)
        self.last = await _planned(self.desired, self.observe())
        self._desk.want(self.desired, self.last.blocked)
        if self._clock.now() - self._started_at < SETTLED_AFTER_S and self._restarted:
            return replace(self.last, steps=())
        self._desk.carry_out(self.last.steps)
        return self.last

    def observe(self) -> Observed:
        """The fleet now, as the planner sees it."""
        nodes, workers = self._cluster
        observed = self._desk.observe()
        return replace(observed, keep_alive=dict(self._keep_alive), ray_nodes=nodes, ray_workers=workers)

    async def driven(self, nodes: tuple[RayNode, ...], workers: tuple[RunningWorker, ...]) -> Plan:
        """A controller asks for the next step: until it falls silent, this one does not step by itself."""
        self._driven_at = self._clock.now()
        return await self.step(nodes, workers)

    def foresee(self, desired: DesiredState, observed: Observed) -> Foreseen:
        """What would change; nothing does. Pure: it may run in a thread."""
        return foresee(desired, observed)

    async def apply(self, desired: DesiredState, version: int) -> int:
        """Want this from now on; ``version``: that of the state it replaces. Returns its own. Raises Changed."""
        check_state(desired)
        row = DesiredRow(
            version=version + 1, state=msgspec.json.encode(desired).decode(), applied_at=self._clock.wall()
        )
        if not await self._store.replace_desired(row):
            raise Changed("the desired state was changed by somebody else meanwhile; look at the difference again")
        self._take(row)
        self._restarted = False
        self._woken.set()
        return row.version

    # -- what requests have to do with it --------------------------------------------------------------------

    def coming(self, model: str) -> str:
        """What a request for it waits for until a worker has loaded it; empty: nothing is to be loaded."""
        if self.desired.model(model) is None or model in self.last.blocked:
            return ""
        return self._desk.coming(model)

    def keep_alive(self, model: str, seconds: float) -> None:
        """A client asks that it stays so long after its last use; within the operator's bounds it does."""
        if self.desired.model(model) is not None:
            rules = self.desired.rules
            self._keep_alive[model] = min(max(seconds, rules.keep_alive_least_s), rules.keep_alive_most_s)
            self.wake()

    def stays(self) -> dict[str, float]:
        """Of wanted models that are loaded: seconds until one goes if nobody uses it meanwhile. Others just stay."""
        may_go = {one.name: one for one in self.desired.models if not one.pin and not one.copies.min}
        unused: dict[str, float] = {}
        for node in self.observe().nodes if may_go else ():
            for copy in node.copies:
                if copy.ready and copy.instance.ordered and copy.model in may_go:
                    unused[copy.model] = min(copy.unused_s, unused.get(copy.model, math.inf))
        return {name: max(0.0, self._keep_alive.get(name, may_go[name].idle_s) - s) for name, s in unused.items()}

    async def status(self) -> dict[str, Any]:
        """Every wanted model with its copies, what is under way, and what does not fit; JSON-ready."""
        observed = self.observe()
        ahead = await _planned(self.desired, observed) if self.version else Plan()
        copies: dict[str, list[dict[str, Any]]] = {}
        for node in observed.nodes:
            for copy in node.copies:
                fraction, message = self._desk.progress(node.worker_id, *copy.instance.key)
                copies.setdefault(copy.model, []).append(
                    {
                        "node": node.node,
                        "quantization": copy.instance.quantization,
                        "state": copy.instance.state,
                        "ordered": bool(copy.instance.ordered),
                        "running": copy.running,
                        "unused_s": round(copy.unused_s, 1),
                        "fraction": fraction,
                        "message": copy.instance.error or message,
                    }
                )
        return {
            "version": self.version,
            "applied_at": self.applied_at,
            "settled": ahead.settled and not any(node.changing for node in observed.nodes),
            "models": [
                {
                    "model": one.name,
                    "min": one.copies.min,
                    "max": one.copies.max,
                    "copies": copies.get(one.name, []),
                    "waiting": ahead.waiting.get(one.name, ""),
                    "blocked": ahead.blocked.get(one.name, ""),
                }
                for one in self.desired.models
            ],
            "steps": steps_body(ahead),
        }

    _restarted = True
    """What is wanted was read from the store, not told to this very process."""

    def _take(self, row: DesiredRow) -> None:
        self.desired = msgspec.json.decode(row.state, type=DesiredState)
        self.version, self.applied_at = row.version, row.applied_at
        self._keep_alive = {name: kept for name, kept in self._keep_alive.items() if self.desired.model(name)}
        self._desk.want(self.desired, {})
        log.info("desired.taken", version=row.version, models=[one.name for one in self.desired.models])

    def wake(self) -> None:
        """Something happened: look at once."""
        if self.version:
            self._woken.set()

    async def _pause(self, least_s: float) -> None:
        try:
            async with asyncio.timeout(min(EVERY_S, self.last.due_s)):
                await self._woken.wait()
            await asyncio.sleep(min(EVERY_S, max(AT_ONCE_S, least_s)))
        except TimeoutError:
            pass
        self._woken.clear()


async def _planned(desired: DesiredState, observed: Observed) -> Plan:
    """Beside the event loop, where there is much to look at."""
    if len(observed.nodes) <= FEW_NODES:
        return plan(desired, observed)
    return await asyncio.to_thread(plan, desired, observed)


def steps_body(ahead: Plan) -> list[dict[str, Any]]:
    """Steps, JSON-ready; ``do`` names the kind."""
    return [{"do": type(step).__name__.lower(), **msgspec.to_builtins(step)} for step in ahead.steps]
