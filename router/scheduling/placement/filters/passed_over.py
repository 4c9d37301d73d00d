"""Candidates that dynamic filters removed from one decision; their reasons are written when somebody reads them.

To write a reason takes longer than to price a worker. Of a busy fleet of a thousand, nine hundred are passed over in
every decision, and hardly anybody asks why.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import WorkerId
from protos.contract.worker import ModelInstance
from router.domain.placement import Exclusion, FilterName
from router.domain.snapshot import WorkerView
from router.scheduling.placement.candidates import Floats
from router.scheduling.placement.filters.dynamic import BOUNDS, DYNAMIC_FILTERS, Demand
from router.scheduling.placement.filters.static import avoided, exclusion


class PassedOver:
    """See ``router.domain.placement.Unwritten`` for what each method promises."""

    def __init__(
        self,
        instances: Sequence[tuple[WorkerView, ModelInstance]],
        data: Floats,
        *,
        ruled_out: NDArray[np.bool_],
        demand: Demand,
        now: float,
    ) -> None:
        """``data``: the columns of ``instances``; ``ruled_out``: those that would have passed, but for the caller."""
        self._instances = instances
        self._ruled_out = ruled_out
        self._figures = {bound.column: data[bound.column] for bound in BOUNDS}
        self._demand = demand
        self._now = now

    def __len__(self) -> int:
        return len(self._instances)

    def counts(self) -> Mapping[FilterName, int]:
        """How many each filter removed."""
        return {name: len(numbers) for name, numbers in self._by_filter().items()}

    def avoided(self) -> Iterable[WorkerId]:
        """Whom the caller ruled out."""
        return (self._instances[number][0].worker_id for number in np.flatnonzero(self._ruled_out).tolist())

    def write(self, most: int) -> tuple[Exclusion, ...]:
        """The reasons of the first so many."""
        removed_by = {number: name for name, numbers in self._by_filter().items() for number in numbers}
        return tuple(self._exclusion(number, removed_by[number]) for number in range(min(most, len(self))))

    def _by_filter(self) -> dict[FilterName, list[int]]:
        """The numbers of those that each filter is the first to remove."""
        found: dict[FilterName, list[int]] = {}
        left = ~self._ruled_out
        for one in DYNAMIC_FILTERS:
            beyond = left & ~one.bound.kept(self._figures, self._demand, self._now, 1.0)
            numbers = np.flatnonzero(beyond).tolist()
            if one.concerns is not None:
                numbers = [number for number in numbers if one.concerns(*self._instances[number], self._now)]
            if numbers:
                found[one.name] = numbers
                left[numbers] = False
        if self._ruled_out.any():
            found[FilterName.AVOID] = np.flatnonzero(self._ruled_out).tolist()
        return found

    def _exclusion(self, number: int, name: FilterName) -> Exclusion:
        view, instance = self._instances[number]
        if name is FilterName.AVOID:
            return avoided(view, instance)
        one = next(one for one in DYNAMIC_FILTERS if one.name is name)
        figure = float(self._figures[one.bound.column][number])
        return exclusion(view, instance, name, one.why(view, instance, figure, self._demand, self._now))
