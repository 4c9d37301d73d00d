"""Filters that depend on the request's rules and on facts of a worker that rarely change."""

from collections.abc import Callable
from typing import NamedTuple

from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState, ModelInstance
from router.domain.placement import Exclusion, FilterName
from router.domain.request import InferenceRequest, RequestKind
from router.domain.snapshot import WorkerView
from router.domain.worker import WorkerState
from router.scheduling.placement.quality import Quality

_LOADED = frozenset({InstanceState.READY, InstanceState.BENCHMARKING})
"""States in which an instance's facts come from the loaded model, not from its file's name."""


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
    """What the static filters go by."""
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


class StaticFilter(NamedTuple):
    """``why`` says why this instance may not take such a request; empty: it may."""

    name: FilterName
    why: Callable[[WorkerView, ModelInstance, Rules, Quality], str]


def static_exclusion(view: WorkerView, instance: ModelInstance, rules: Rules, quality: Quality) -> Exclusion | None:
    """The first static filter that removes ``instance``, or None."""
    for name, why in STATIC_FILTERS:
        if reason := why(view, instance, rules, quality):
            return exclusion(view, instance, name, reason)
    return None


def not_served(view: WorkerView, model: str) -> Exclusion:
    """The worker has no instance of the model at all."""
    held = ", ".join(f"{m.model}@{m.quantization}" for m in view.models) or "nothing"
    return exclusion(view, None, FilterName.MODEL, f"does not serve {model} (it holds {held})")


def _pin(_view: WorkerView, instance: ModelInstance, rules: Rules, _quality: Quality) -> str:
    held = instance.quantization
    if rules.pinned and _quantization_known(instance) and held != rules.pinned:
        return f"holds {held}, the request wants exactly {rules.pinned}"
    return ""


def _quality(_view: WorkerView, instance: ModelInstance, rules: Rules, quality: Quality) -> str:
    held = instance.quantization
    if not _quantization_known(instance):
        return ""
    if rules.floor and not quality.at_least(held, rules.floor):
        return f"{held} is below the floor {rules.floor}"
    if rules.never_quantized and not quality.at_least(held, FULL_PRECISION):
        return f"{held} is quantized, which this tenant rules out"
    return ""


def _labels(view: WorkerView, _instance: ModelInstance, rules: Rules, _quality: Quality) -> str:
    missing = [f"{k}={v}" for k, v in rules.labels if (k, v) not in view.profile.labels]
    return f"lacks the label {', '.join(missing)}" if missing else ""


def _capability(view: WorkerView, instance: ModelInstance, rules: Rules, _quality: Quality) -> str:
    if instance.state not in _LOADED:
        return ""  # what it can do is not known yet; its state is the reason
    able = instance.capabilities
    if rules.continuation and not able.can_continue:
        return f"{view.profile.engine} cannot continue another's answer"
    if rules.chat and not able.chat:
        return "does not serve chat"
    if rules.logprobs and not able.logprobs:
        return "does not report log-probabilities"
    return ""


def _failed(_view: WorkerView, instance: ModelInstance, _rules: Rules, _quality: Quality) -> str:
    if instance.state is not InstanceState.FAILED:
        return ""
    return f"{instance.model} failed there: {instance.error or 'no reason'}"


def _state(view: WorkerView, instance: ModelInstance, _rules: Rules, _quality: Quality) -> str:
    why = f" ({instance.error})" if instance.error else ""
    if view.state is not WorkerState.READY:
        return f"worker is {view.state.value}{why}"
    if instance.state is not InstanceState.READY:
        return f"{instance.model} is {instance.state.value} there{why}"
    return ""


def _cordon(view: WorkerView, _instance: ModelInstance, _rules: Rules, _quality: Quality) -> str:
    return "cordoned by the operator" if view.cordoned else ""


def _quantization_known(instance: ModelInstance) -> bool:
    """From its name or because it is loaded; of what is neither, nothing is ruled out."""
    return bool(instance.quantization) or instance.state in _LOADED


STATIC_FILTERS = (
    StaticFilter(FilterName.PIN, _pin),
    StaticFilter(FilterName.QUALITY, _quality),
    StaticFilter(FilterName.LABELS, _labels),
    StaticFilter(FilterName.CAPABILITY, _capability),
    StaticFilter(FilterName.FAILED, _failed),
    StaticFilter(FilterName.STATE, _state),
    StaticFilter(FilterName.CORDON, _cordon),
)
"""In the order they are asked. MODEL comes before all of them, see ``not_served``."""


def avoided(view: WorkerView, instance: ModelInstance) -> Exclusion:
    """The caller ruled the worker out for this request: it failed it before, or is full."""
    return exclusion(view, instance, FilterName.AVOID, "ruled out for this request: tried before, or full")


def exclusion(view: WorkerView, instance: ModelInstance | None, name: FilterName, reason: str) -> Exclusion:
    """``name`` removed the worker, or one of its instances, and why."""
    return Exclusion(
        worker_id=WorkerId(view.worker_id),
        node=view.profile.node,
        filter=name,
        reason=reason,
        quantization=instance.quantization if instance else "",
    )
