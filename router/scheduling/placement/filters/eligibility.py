"""Who passes the static filters, kept for each set of rules and brought up to date worker by worker.

A fleet of a thousand has somebody going to sleep, waking up or loading a model every second. Sifting all of them anew
takes longer than ten decisions, and there are as many sets of rules as tenants and models.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import WorkerId
from router.domain.placement import Exclusion
from router.domain.snapshot import WorkerView
from router.scheduling.placement.candidates import InstanceKey
from router.scheduling.placement.filters.static import Rules, not_served, static_exclusion
from router.scheduling.placement.quality import Quality

MAX_RULES = 512
"""Rule sets whose candidates are kept; tenants times models. At the bound all are computed anew."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """Rows that pass the static filters for one set of rules, and why the others do not."""

    rows: NDArray[np.intp]  # ascending
    index_rows: NDArray[np.intp]  # the same instances' rows in the prefix index
    keys: tuple[InstanceKey, ...]
    nodes: tuple[str, ...]
    exclusions: tuple[Exclusion, ...]


@dataclass(slots=True, kw_only=True)
class Layout:
    """Which instance stands in which row; the rows of a view stand together, views in snapshot order."""

    views: list[WorkerView] = field(default_factory=list)
    first_row: list[int] = field(default_factory=list)  # of each view
    keys: list[InstanceKey] = field(default_factory=list)  # of each row
    nodes: list[str] = field(default_factory=list)
    index_rows: list[int] = field(default_factory=list)


Verdict = tuple[int | Exclusion, ...]
"""On the instances of one worker: the number of each that passes, the reason of each that does not."""


@dataclass(slots=True)
class _Sifted:
    """``eligible`` is None after a change: it is put together from the verdicts, and those that lack are found anew."""

    verdicts: dict[WorkerId, Verdict] = field(default_factory=dict)
    eligible: Eligible | None = None


class Eligibility:
    """Candidates by the static filters for any rules."""

    def __init__(self, quality: Quality) -> None:
        self._quality = quality
        self._layout = Layout()
        self._sifted: dict[Rules, _Sifted] = {}

    def moved(self, layout: Layout) -> None:
        """Rows stand elsewhere."""
        self._layout = layout
        for one in self._sifted.values():
            one.eligible = None

    def changed(self, worker_id: WorkerId) -> None:
        """What static filters look at changed in this worker, or its rows in the prefix index."""
        for one in self._sifted.values():
            one.verdicts.pop(worker_id, None)
            one.eligible = None

    def of(self, rules: Rules) -> Eligible:
        """The candidates now; the same object until one changes."""
        sifted = self._sifted.get(rules)
        if sifted is None:
            if len(self._sifted) >= MAX_RULES:
                self._sifted.clear()
            sifted = self._sifted[rules] = _Sifted()
        if sifted.eligible is None:
            sifted.eligible = self._put_together(sifted, rules)
        return sifted.eligible

    def _put_together(self, sifted: _Sifted, rules: Rules) -> Eligible:
        layout, known = self._layout, sifted.verdicts
        sifted.verdicts = verdicts = {}  # without workers that are gone
        rows: list[int] = []
        exclusions: list[Exclusion] = []
        for view, first_row in zip(layout.views, layout.first_row, strict=True):
            verdict = verdicts[view.worker_id] = known.get(view.worker_id) or self._verdict(view, rules)
            for one in verdict:
                if isinstance(one, int):
                    rows.append(first_row + one)
                else:
                    exclusions.append(one)
        return Eligible(
            np.array(rows, dtype=np.intp),
            np.array([layout.index_rows[row] for row in rows], dtype=np.intp),
            tuple([layout.keys[row] for row in rows]),
            tuple([layout.nodes[row] for row in rows]),
            tuple(exclusions),
        )

    def _verdict(self, view: WorkerView, rules: Rules) -> Verdict:
        found: list[int | Exclusion] = []
        for number, instance in enumerate(view.models):
            if instance.model == rules.model:
                excluded = static_exclusion(view, instance, rules, self._quality)
                found.append(number if excluded is None else excluded)
        return tuple(found) or (not_served(view, rules.model),)
