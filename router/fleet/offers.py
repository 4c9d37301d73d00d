"""What a joining machine is offered: the pool's models, by what ``router.capacity`` says of the machine.

security = await build_security(config, …, offers=PoolOffers(membership.snapshot))
"""

import math
from collections.abc import Callable, Iterable

from protos.allsorts.v1 import fleet_pb2 as pb
from router.capacity.offers import MachineOffer, Wanted, offers_for
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import InstanceState, ModelInstance, WorkerState
from router.fleet.bounds import MAX_ENTRIES, MAX_NAME
from router.fleet.codec import hardware_from

_MOST_DEVICES = 1024
_MOST_BYTES = 1 << 50
"""A machine that claims more than a pebibyte is not offered anything: nothing it says would be believed."""

_HERE = frozenset({WorkerState.READY, WorkerState.LOADING, WorkerState.BENCHMARKING, WorkerState.DRAINING})
_LIKELY_BACK = frozenset({WorkerState.ASLEEP, WorkerState.GONE})


class PoolOffers:
    """Implements ``router.fleet.open_pool.Offers`` over the fleet as it is when a machine asks."""

    def __init__(self, snapshot: Callable[[], FleetSnapshot]) -> None:
        self._snapshot = snapshot

    def __call__(self, profile: pb.Profile) -> Iterable[pb.ModelOffer]:
        """Best first. A profile that cannot be true is offered nothing; it is refused when it opens a session."""
        if not _plausible(profile):
            return ()
        found = offers_for(hardware_from(profile.hardware), profile.engine, wanted_of(self._snapshot()))
        return tuple(_message(one) for one in found)


def wanted_of(snapshot: FleetSnapshot) -> tuple[Wanted, ...]:
    """Every model that a worker of the pool holds or held, with how busy it is. Loads count where it is ready."""
    held: dict[str, list[tuple[WorkerView, ModelInstance]]] = {}
    for view in snapshot.workers:
        if view.state in _HERE or view.state in _LIKELY_BACK:
            for one in view.models:
                if one.state is not InstanceState.FAILED:
                    held.setdefault(one.model, []).append((view, one))
    return tuple(_wanted(model, where) for model, where in held.items())


def _wanted(model: str, where: list[tuple[WorkerView, ModelInstance]]) -> Wanted:
    serving = [
        (view, one) for view, one in where if view.state is WorkerState.READY and one.state is InstanceState.READY
    ]
    rest = [pair for pair in where if pair not in serving]
    return Wanted(
        model=model,
        instances=tuple(one for _, one in (*serving, *rest)),
        workers=len(serving),
        requests=sum(view.load.running + view.load.waiting + view.inflight.requests for view, _ in serving),
        slots=sum(max(1, one.slots) for _, one in serving),
    )


def _plausible(profile: pb.Profile) -> bool:
    machine = profile.hardware
    return (
        len(machine.name) <= MAX_NAME
        and len(machine.details) <= MAX_ENTRIES
        and machine.count <= _MOST_DEVICES
        and max(machine.memory_bytes, machine.usable_memory_bytes) <= _MOST_BYTES
        and math.isfinite(machine.bandwidth_bytes_per_s)
        and 0 <= machine.bandwidth_bytes_per_s <= _MOST_BYTES
    )


def _message(offer: MachineOffer) -> pb.ModelOffer:
    return pb.ModelOffer(
        model=offer.model,
        quantization=offer.quantization,
        predicted_tokens_per_s=offer.tokens_per_s,
        predicted_prefill_tokens_per_s=offer.prefill_tokens_per_s,
        memory_bytes=offer.memory_bytes,
        reason=offer.reason,
    )
