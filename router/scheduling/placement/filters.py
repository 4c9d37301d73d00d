"""Who may take a request at all, and the reason of everyone who may not.

Two kinds. *Standing* filters depend only on the request's rules and on facts that rarely change; their result is
computed once per rule and fleet structure. *Passing* filters depend on load and time; they are columns compared with
numbers. Lasting reasons are checked before passing ones, so that a worker that could never serve the request does
not read as one worth waiting for.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from router.domain.ids import WorkerId
from router.domain.placement import Exclusion
from router.domain.request import InferenceRequest, RequestKind
from router.domain.snapshot import WorkerView
from router.domain.worker import InstanceState, ModelInstance, WorkerState
from router.scheduling.placement.candidates import Column, Floats

LASTING = frozenset({"model", "pin", "quality", "labels", "capability", "context", "failed"})
"""Filters whose exclusions waiting does not cure. A model that failed to load stays failed until somebody acts."""

_LOADED = frozenset({InstanceState.READY, InstanceState.BENCHMARKING})
"""States in which an instance's facts come from the loaded model, not from its file's name."""

ESTIMATE_SLACK = 0.5
"""The router estimates prompt tokens from bytes. When by the estimate nobody has the context, those who would have
it at half the estimate are asked: the worker counts exactly and answers with the counts. Half, because plain prose
has 5.4 bytes a token where mixed text has 3.7, and a prompt that fits must never be refused by a guess."""
KV_SLACK = 0.8
"""The same for free KV cache, where asking in vain costs a refusal and a retry."""


class Quality(Protocol):
    """What filters and cost ask about quantizations; ``router.capacity.quality`` answers."""

    def at_least(self, quantization: str, floor: str) -> bool:
        """``quantization`` is as good as ``floor`` or better; an unknown one never is."""
        ...

    def loss(self, parameters: float, quantization: str) -> float:
        """Relative loss of perplexity against full precision; 0.01 is 1%."""
        ...


class Rules(NamedTuple):
    """What a request demands of a worker whatever its load. Hashable: results are kept per rule."""

    model: str
    pinned: str | None
    floor: str | None
    never_quantized: bool
    labels: tuple[tuple[str, str], ...]
    chat: bool
    logprobs: bool
    continuation: bool


def rules_of(request: InferenceRequest) -> Rules:
    """The standing demands of ``request``."""
    return Rules(
        request.model.name,
        request.model.pinned,
        request.model.floor,
        request.never_quantized,
        request.required_labels,
        request.kind is RequestKind.CHAT,
        request.sampling.logprobs,
        request.continues,
    )


FULL_PRECISION = "fp16"
"""What ``never_quantized`` asks for. Who would take 8 bit too sets a floor of q8_0 instead."""


def standing_exclusion(view: WorkerView, instance: ModelInstance, rules: Rules, quality: Quality) -> Exclusion | None:
    """The first standing filter that removes ``instance``, or None."""
    return _lasting(view, instance, rules, quality) or _state(view, instance)


def not_served(view: WorkerView, model: str) -> Exclusion:
    """The worker has no instance of the model at all."""
    held = ", ".join(f"{m.model}@{m.quantization}" for m in view.models) or "nothing"
    return _exclusion(view, None, "model", f"does not serve {model} (it holds {held})")


def _lasting(view: WorkerView, instance: ModelInstance, rules: Rules, quality: Quality) -> Exclusion | None:
    held = instance.quantization
    if held or instance.state in _LOADED:
        if rules.pinned and held != rules.pinned:
            return _exclusion(view, instance, "pin", f"holds {held}, the request wants exactly {rules.pinned}")
        if rules.floor and not quality.at_least(held, rules.floor):
            return _exclusion(view, instance, "quality", f"{held} is below the floor {rules.floor}")
        if rules.never_quantized and not quality.at_least(held, FULL_PRECISION):
            return _exclusion(view, instance, "quality", f"{held} is quantized, which this tenant rules out")
    missing = [f"{k}={v}" for k, v in rules.labels if (k, v) not in view.profile.labels]
    if missing:
        return _exclusion(view, instance, "labels", f"lacks the label {', '.join(missing)}")
    if instance.state not in _LOADED:
        return None  # what it can do is not known yet; its state is the reason
    able = instance.capabilities
    if rules.continuation and not able.can_continue:
        return _exclusion(view, instance, "capability", f"{view.profile.engine} cannot continue another's answer")
    if rules.chat and not able.chat:
        return _exclusion(view, instance, "capability", "does not serve chat")
    if rules.logprobs and not able.logprobs:
        return _exclusion(view, instance, "capability", "does not report log-probabilities")
    return None


def _state(view: WorkerView, instance: ModelInstance) -> Exclusion | None:
    if instance.state is InstanceState.FAILED:
        return _exclusion(view, instance, "failed", f"{instance.model} failed there: {instance.error or 'no reason'}")
    why = f" ({instance.error})" if instance.error else ""
    if view.state is not WorkerState.READY:
        return _exclusion(view, instance, "state", f"worker is {view.state.value}{why}")
    if instance.state is not InstanceState.READY:
        return _exclusion(view, instance, "state", f"{instance.model} is {instance.state.value} there{why}")
    if view.cordoned:
        return _exclusion(view, instance, "cordon", "cordoned by the operator")
    return None


class Demand(NamedTuple):
    """What the passing filters compare with, in tokens."""

    prompt_tokens: float
    max_tokens: float  # asked for; 0: no limit given
    expected_tokens: float

    @property
    def context(self) -> float:
        """Prompt plus the output the client insists on, at least one token."""
        return self.prompt_tokens + max(self.max_tokens, 1.0)


def all_pass(data: Floats, demand: Demand, now: float) -> bool:
    """Every column passes: the common case, told from three extremes instead of three comparisons of all."""
    limits, free, suspended = data[Column.CONTEXT_LIMIT], data[Column.KV_FREE], data[Column.SUSPENDED_UNTIL]
    least_free, latest = float(free[free.argmin()]), float(suspended[suspended.argmax()])
    fits = float(limits[limits.argmin()]) >= demand.context
    return fits and least_free >= demand.prompt_tokens + demand.expected_tokens and latest <= now


def passing(data: Floats, demand: Demand, now: float, *, slack: float = 1.0) -> NDArray[np.bool_]:
    """Which columns pass the filters on time, context and KV cache."""
    prompt = demand.prompt_tokens * slack
    fits: NDArray[np.bool_] = data[Column.CONTEXT_LIMIT] >= prompt + max(demand.max_tokens, 1.0)
    fits &= data[Column.KV_FREE] >= demand.prompt_tokens * max(slack, KV_SLACK) + demand.expected_tokens
    fits &= data[Column.SUSPENDED_UNTIL] <= now
    return fits


def passing_exclusion(
    view: WorkerView, instance: ModelInstance, figures: Floats, demand: Demand, now: float
) -> Exclusion:
    """Why ``passing`` removed this one, lasting reasons first."""
    limit = figures[Column.CONTEXT_LIMIT]
    if limit < demand.context:
        what = "context" if limit >= instance.context_tokens > 0 else "KV cache"
        why = f"needs about {demand.context:.0f} tokens, its {what} takes {limit:.0f}"
        return _exclusion(view, instance, "context", why)
    if view.suspended_until > now:
        wait = view.suspended_until - now
        why = view.suspended_reason or "it failed"
        return _exclusion(view, instance, "suspended", f"set aside for another {wait:.1f} s: {why}")
    if view.probing and figures[Column.SUSPENDED_UNTIL] > now:
        return _exclusion(view, instance, "probing", "back after failures, it proves itself with one request first")
    free = figures[Column.KV_FREE]
    total = demand.prompt_tokens + demand.expected_tokens
    return _exclusion(view, instance, "kv", f"needs about {total:.0f} tokens of KV cache, {max(free, 0):.0f} are free")


def avoided(view: WorkerView, instance: ModelInstance) -> Exclusion:
    """The caller ruled the worker out for this request: it failed it before, or is full."""
    return _exclusion(view, instance, "avoid", "ruled out for this request: tried before, or full")


def only_lasting(exclusions: Sequence[Exclusion]) -> bool:
    """Waiting would not help: every exclusion lasts."""
    return all(e.filter in LASTING for e in exclusions)


def _exclusion(view: WorkerView, instance: ModelInstance | None, name: str, reason: str) -> Exclusion:
    return Exclusion(
        worker_id=WorkerId(view.worker_id),
        node=view.profile.node,
        filter=name,
        reason=reason,
        quantization=instance.quantization if instance else "",
    )
