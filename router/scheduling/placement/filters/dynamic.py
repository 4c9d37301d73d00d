"""Filters that depend on load and time: columns compared with what the request demands of them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.contract.worker import ModelInstance
from router.domain.placement import FilterName
from router.domain.snapshot import WorkerView
from router.scheduling.placement.candidates import Floats
from router.scheduling.placement.columns import Column

KV_SLACK = 0.8
"""The router estimates prompt tokens from bytes. When by the estimate nobody has the KV cache free, those who would
have it at so much of the estimate are asked: in vain, that costs a refusal and a retry."""


class Demand(NamedTuple):
    """What the dynamic filters compare with, in tokens."""

    prompt_tokens: float
    max_tokens: float  # asked for; 0: no limit given
    expected_tokens: float

    @property
    def context(self) -> float:
        """Prompt plus the output the client insists on, at least one token."""
        return self.prompt_tokens + max(self.max_tokens, 1.0)

    def within(self, longest: float) -> "Demand":
        """The demand as far as ``longest`` tokens, the longest context there is, can hold it.

        An estimate never refuses: a prompt that by its bytes is too long for everybody goes to the longest context,
        where it is counted exactly. Only ``max_tokens``, which is no estimate, can be beyond everybody.
        """
        prompt = min(self.prompt_tokens, max(longest - max(self.max_tokens, 1.0), 0.0))
        return Demand(prompt, self.max_tokens, min(self.expected_tokens, max(longest - prompt, 1.0)))


class Bound(NamedTuple):
    """What a column must keep to: at least ``limit`` where it is a floor, else at most."""

    column: Column
    floor: bool
    limit: Callable[[Demand, float, float], float]  # of demand, time and slack

    def kept(
        self, data: Floats | Mapping[Column, Floats], demand: Demand, now: float, slack: float
    ) -> NDArray[np.bool_]:
        """Which candidates (or whether this one) keep it."""
        figures, limit = data[self.column], self.limit(demand, now, slack)
        kept: NDArray[np.bool_] = figures >= limit if self.floor else figures <= limit
        return kept


class DynamicFilter(NamedTuple):
    """``why`` says why a worker is beyond the bound. ``concerns``: whether it is this filter's to say; None: always."""

    name: FilterName
    bound: Bound
    why: Callable[[WorkerView, ModelInstance, float, Demand, float], str]  # of view, instance, figure, demand, time
    concerns: Callable[[WorkerView, ModelInstance, float], bool] | None = None  # of view, instance and time


def all_pass(data: Floats, demand: Demand, now: float) -> bool:
    """No dynamic filter removes anyone: the common case, told from the worst of each column, in half the time."""
    for column, floor, limit in BOUNDS:
        figures = data[column]
        if floor:
            if float(figures[figures.argmin()]) < limit(demand, now, 1.0):
                return False
        elif float(figures[figures.argmax()]) > limit(demand, now, 1.0):
            return False
    return True


def passing(data: Floats, demand: Demand, now: float, *, slack: float = 1.0) -> NDArray[np.bool_]:
    """Which candidates pass the dynamic filters, when the prompt takes only ``slack`` of the KV cache it should."""
    passes: NDArray[np.bool_] = np.logical_and.reduce([bound.kept(data, demand, now, slack) for bound in BOUNDS])
    return passes


def _too_long(_view: WorkerView, instance: ModelInstance, limit: float, demand: Demand, _now: float) -> str:
    what = "context" if limit >= instance.context_tokens > 0 else "KV cache"
    return f"needs about {demand.context:.0f} tokens, its {what} takes {limit:.0f}"


def _suspended(view: WorkerView, instance: ModelInstance, _until: float, _demand: Demand, now: float) -> str:
    until, reason = _suspension(view, instance)
    return f"set aside for another {until - now:.1f} s: {reason or 'it failed'}"


def _suspension(view: WorkerView, instance: ModelInstance) -> tuple[float, str]:
    """Until when, and why: the worker as a whole, or this model of it."""
    held = view.set_aside.get(instance.key)
    if held is not None and held.until > view.suspended_until:
        return held.until, held.reason
    return view.suspended_until, view.suspended_reason


def _probing(_view: WorkerView, _instance: ModelInstance, _until: float, _demand: Demand, _now: float) -> str:
    return "back after failures, it proves itself with one request first"


def _no_room(_view: WorkerView, _instance: ModelInstance, free: float, demand: Demand, _now: float) -> str:
    needed = demand.prompt_tokens + demand.expected_tokens
    return f"needs about {needed:.0f} tokens of KV cache, {max(free, 0):.0f} are free"


_CONTEXT = Bound(Column.CONTEXT_LIMIT, True, lambda demand, _now, _slack: demand.context)
_IN_SERVICE = Bound(Column.SUSPENDED_UNTIL, False, lambda _demand, now, _slack: now)
_ROOM = Bound(Column.KV_FREE, True, lambda demand, _now, slack: demand.prompt_tokens * slack + demand.expected_tokens)

DYNAMIC_FILTERS = (
    DynamicFilter(FilterName.CONTEXT, _CONTEXT, _too_long),
    DynamicFilter(
        FilterName.SUSPENDED, _IN_SERVICE, _suspended, lambda view, instance, now: _suspension(view, instance)[0] > now
    ),
    DynamicFilter(FilterName.PROBING, _IN_SERVICE, _probing),
    DynamicFilter(FilterName.KV, _ROOM, _no_room),
)
"""In the order they are asked."""

BOUNDS = tuple(dict.fromkeys(one.bound for one in DYNAMIC_FILTERS))
"""Each once: what suspends a worker and what has it prove itself share a column."""
