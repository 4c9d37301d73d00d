"""Filters that depend on the request's rules and on facts of a worker that rarely change."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from protos.contract.grammar import GrammarKind
from protos.contract.ids import WorkerId
from protos.contract.tools import ToolChoice
from protos.contract.worker import Capabilities, InstanceState, ModelInstance
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
    output_format: str  # that a continuation must read; empty: text alone
    tools: bool
    grammar: GrammarKind | None
    vision: bool
    prompt_logprobs: bool
    embedding: bool


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
        request.output_format,
        request.tooling is not None and request.tooling.choice is not ToolChoice.NONE,
        None if request.grammar is None else request.grammar.kind,
        request.images > 0,
        request.sampling.echo and (request.sampling.logprobs or not isinstance(request.prompt, str)),
        request.kind is RequestKind.EMBEDDING,
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
            found = exclusion(view, instance, name, reason)
            if name is FilterName.CAPABILITY:
                return replace(found, lacks=_missing(instance.capabilities, rules))
            return found
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
    if rules.output_format and rules.output_format != instance.output_format:
        return "cannot read how the answer so far marks thoughts and calls"
    missing = _missing(able, rules)
    return f"has no {', no '.join(missing)}" if missing else ""


def _missing(able: Capabilities, rules: Rules) -> tuple[str, ...]:
    """What the request needs and the instance has not."""
    needs = (
        (rules.embedding, able.can_embed, "embeddings"),
        (not rules.embedding, not able.embeds_only, "text generation"),
        (rules.chat, able.chat, "a chat template (use /v1/completions, or give the model one)"),
        (rules.logprobs, able.logprobs, "log-probabilities"),
        (rules.prompt_logprobs, able.prompt_logprobs, "log-probabilities of the prompt"),
        (rules.tools, able.tools, "tools"),
        (rules.vision, able.vision, "vision"),
        (rules.grammar is not None, rules.grammar in able.grammars, f"structured output ({rules.grammar})"),
    )
    return tuple(name for needed, has, name in needs if needed and not has)


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
