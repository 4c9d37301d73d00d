"""What a joining machine is offered: the pool's models, by what ``router.capacity`` says of the machine; and what is
expected of it with the model files it has, wanted or not.

security = await build_security(config, …, offers=PoolOffers(membership.snapshot))
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from protos.contract.joining.enrolment import ModelOffer
from protos.contract.models.quality import at_least
from protos.contract.validation import MAX_ENTRIES, MAX_NAME
from protos.contract.worker import Hardware, InstanceState, ModelInstance, Profile
from router.capacity.format_choice import comfortable
from router.capacity.recommendations import Wanted, recommend, recommend_files
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import WorkerState

_MAX_DEVICES = 1024
_MAX_BYTES = 1 << 50
"""A machine that claims more than a pebibyte is not offered anything: nothing it says would be believed."""

_HERE = frozenset({WorkerState.READY, WorkerState.LOADING, WorkerState.BENCHMARKING, WorkerState.DRAINING})
_LIKELY_BACK = frozenset({WorkerState.ASLEEP, WorkerState.GONE})


class PoolOffers:
    """Implements ``router.trust.enroller.Offers`` over the fleet as it is when a machine asks.

    ``floors``: canonical, by model; what lies below is offered last, since requests that name nothing never reach it.
    """

    def __init__(self, snapshot: Callable[[], FleetSnapshot], floors: Mapping[str, str] | None = None) -> None:
        self._snapshot = snapshot
        self._floors = dict(floors or {})

    def __call__(self, profile: Profile, files: Sequence[ModelInstance] = ()) -> Iterable[ModelOffer]:
        """Best first. A profile that cannot be true is offered nothing; it is refused when it opens a session."""
        if not _plausible(profile):
            return ()
        hardware = profile.hardware
        wanted = wanted_of(self._snapshot())
        found = recommend(hardware, profile.engine, wanted)
        named = {(one.model, one.quantization) for one in found}
        had = _with_files(hardware, profile.engine, files, {one.model: one for one in wanted})
        besides = (one for one in had if (one.model, one.quantization) not in named)
        return tuple(self._below_the_floor_last((*found, *besides)))

    def _below_the_floor_last(self, offers: Iterable[ModelOffer]) -> list[ModelOffer]:
        above, below = [], []
        for one in offers:
            floor = self._floors.get(one.model)
            if floor is None or at_least(one.quantization, floor):
                above.append(one)
            else:
                why = f"below the pool's floor of {floor}: only requests that pin {one.quantization} reach it"
                below.append(replace(one, reason=f"{one.reason}; {why}"))
        return above + below


def _with_files(
    hardware: Hardware, engine: str, files: Sequence[ModelInstance], wanted: Mapping[str, Wanted]
) -> list[ModelOffer]:
    """What is expected of the machine with these very files, of each model the best first.

    What is fast enough comes before what is not, then the best of every model before the second best of any, then
    models that the pool serves before others. What does not fit is left out.
    """
    ranked: list[tuple[tuple[bool, bool, bool], ModelOffer]] = []
    for model in dict.fromkeys(one.model for one in files):
        known = wanted.get(model)
        mine = [one for one in files if one.model == model]
        why = "of a model that the pool serves" if known else "of a model that nobody in the pool serves"
        for place, offer in enumerate(recommend_files(hardware, engine, mine, known.instances if known else ())):
            best = "; of its files here the best choice for this machine" if place == 0 and len(mine) > 1 else ""
            rank = not comfortable(offer.tokens_per_s), place > 0, known is None
            ranked.append((rank, replace(offer, reason=f"a file on this machine, {why}{best}")))
    return [offer for _, offer in sorted(ranked, key=lambda one: one[0])]


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


def _plausible(profile: Profile) -> bool:
    machine = profile.hardware
    return (
        len(machine.name) <= MAX_NAME
        and len(machine.details) <= MAX_ENTRIES
        and machine.count <= _MAX_DEVICES
        and max(machine.memory_bytes, machine.usable_memory_bytes) <= _MAX_BYTES
        and math.isfinite(machine.bandwidth_bytes_per_s)
        and 0 <= machine.bandwidth_bytes_per_s <= _MAX_BYTES
    )
