"""What a joining machine is offered: the pool's models, by what ``router.capacity`` says of the machine; and what is
expected of it with the model files it has, wanted or not.

security = await build_security(config, …, offers=PoolOffers(membership.snapshot))
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from protos.allsorts.v1 import fleet_pb2 as pb
from router.capacity.formats import canonical
from router.capacity.offers import MachineOffer, Wanted, offers_for
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import Hardware, InstanceState, ModelInstance, WorkerState
from router.fleet.bounds import MAX_ENTRIES, MAX_NAME, OutOfBounds, check_instance
from router.fleet.codec import hardware_from, instance_from

_MOST_DEVICES = 1024
_MOST_FILES = 64
_MOST_BYTES = 1 << 50
"""A machine that claims more than a pebibyte is not offered anything: nothing it says would be believed."""

_HERE = frozenset({WorkerState.READY, WorkerState.LOADING, WorkerState.BENCHMARKING, WorkerState.DRAINING})
_LIKELY_BACK = frozenset({WorkerState.ASLEEP, WorkerState.GONE})


class PoolOffers:
    """Implements ``router.fleet.open_pool.Offers`` over the fleet as it is when a machine asks."""

    def __init__(self, snapshot: Callable[[], FleetSnapshot]) -> None:
        self._snapshot = snapshot

    def __call__(self, profile: pb.Profile, files: Sequence[pb.ModelInstance] = ()) -> Iterable[pb.ModelOffer]:
        """Best first. A profile that cannot be true is offered nothing; it is refused when it opens a session."""
        if not _plausible(profile):
            return ()
        hardware = hardware_from(profile.hardware)
        wanted = wanted_of(self._snapshot())
        found = offers_for(hardware, profile.engine, wanted)
        named = {(one.model, one.quantization) for one in found}
        wants = {one.model: one for one in wanted}
        had = (_with_file(hardware, profile.engine, one, wants.get(one.model)) for one in _believable(files))
        besides = (one for one in had if one is not None and (one.model, one.quantization) not in named)
        return tuple(_message(one) for one in (*found, *besides))


def _believable(files: Sequence[pb.ModelInstance]) -> Iterable[ModelInstance]:
    for file in files[:_MOST_FILES]:
        with contextlib.suppress(OutOfBounds):
            check_instance(file)
            yield instance_from(file)


def _with_file(hardware: Hardware, engine: str, file: ModelInstance, wanted: Wanted | None) -> MachineOffer | None:
    """What is expected of the machine with this very file; None where it does not fit or too little is known."""
    held = () if wanted is None else wanted.instances
    asked = Wanted(model=file.model, instances=(file, *held), workers=0, requests=0, slots=0)
    quantization = canonical(file.quantization)
    found = (one for one in offers_for(hardware, engine, (asked,)) if one.quantization == quantization)
    why = "of a model that nobody in the pool serves" if wanted is None else "of a model that the pool serves"
    return next((replace(one, reason=f"a file on this machine, {why}") for one in found), None)


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
