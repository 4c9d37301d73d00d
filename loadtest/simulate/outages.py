"""Workers that go away in the middle of a simulation, and come back: streams move as they do in the server."""

from dataclasses import dataclass

from loadtest.simulate.world import World
from router.domain.placement import Ending, Outcome
from router.scheduling.claims import Claim
from router.scheduling.events import AttemptEnded, Fault, WorkerAccepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """From ``at`` (seconds) on a node is away for ``lasts_s``: it crashed, or ``announced`` that it drains."""

    at: float
    node: str
    lasts_s: float = float("inf")
    announced: bool = False


@dataclass(frozen=True, slots=True)
class _Produced:
    tokens: int
    first_at: float | None


class Outages:
    """Plays them in a world, which is told of them before it runs."""

    def __init__(self, world: World) -> None:
        self._world = world

    def plan(self, outage: Outage) -> None:
        """It begins at its time."""
        self._world.at(outage.at, self._begin, outage)

    def _begin(self, outage: Outage) -> None:
        """What runs there stops: its tokens so far are with their clients, the rest is anybody's."""
        world = self._world
        place = next(i for i, node in enumerate(world.setup.fleet.nodes) if node.node == outage.node)
        node = world.nodes[place]
        world.advance(place)
        produced = {
            one.key: _Produced(node.core.produced(one, world.now), one.first_at) for one in node.core.sequences()
        }
        node.core.clear(world.now)
        node.core.step(world.now)
        node.crashed, node.draining = not outage.announced, outage.announced
        node.report_at = node.wake_at = float("inf")
        for replica in range(len(world.routers)):
            world.at(world.now + node.rtt_s / 2.0, self._heard, replica, place, produced, outage.announced)
        if outage.lasts_s < float("inf"):
            world.at(world.now + outage.lasts_s, self._end, place, outage.announced)

    def _heard(self, replica: int, place: int, produced: dict[object, _Produced], announced: bool) -> None:
        """A router hears of it: every attempt it had there ends, and what is left is placed elsewhere."""
        world = self._world
        router, worker_id = world.routers[replica], world.setup.fleet.nodes[place].worker_id
        router.leave(place, world.now, announced=announced)
        for claim in [one for one in router.claims if one.worker_id == worker_id]:
            number = int(claim.request_id)
            if number in world.served or (announced and number not in produced):
                continue  # its last words, or its refusal, are on their way
            self._move(replica, claim, produced.get(number), announced=announced)

    def _move(self, replica: int, claim: Claim, produced: _Produced | None, *, announced: bool) -> None:
        world, router, number = self._world, self._world.routers[replica], int(claim.request_id)
        new = 0 if produced is None else produced.tokens
        if produced is not None:  # it was there
            router.handle(WorkerAccepted(claim.request_id, world.running[number].arrival.prompt_tokens), world.now)
            if produced.first_at is not None and number not in world.done:
                world.running[number].first_at = produced.first_at
        if new:
            world.done[number] = world.done.get(number, 0) + new
        sent = world.done.get(number, 0)
        world.continued += sent > 0
        ended = AttemptEnded(
            claim.request_id,
            Outcome(
                finished_at=world.now,
                ttft_s=produced.first_at - claim.sent_at if produced and produced.first_at is not None else None,
                completion_tokens=new,
                ending=Ending.RETURNED if announced else Ending.LOST,
            ),
            reason="the worker went away",
            fault=Fault.NONE if announced else Fault.FAILURE,
            sent_tokens=sent,
            started=sent > 0,
            progressed=new > 0,
        )
        world.carry_out(replica, router.handle(ended, world.now))

    def _end(self, place: int, announced: bool) -> None:
        node = self._world.nodes[place]
        node.crashed = node.draining = False
        for replica, router in enumerate(self._world.routers):
            router.back(place, self._world.now, announced=announced)
            self._world.carry_out(replica, router.tick(self._world.now))
