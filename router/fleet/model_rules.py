"""Which models a worker may serve, and how much of the speed it claims is believed. Pure.

Whoever was let in could otherwise announce any model at any speed, and would be sent every prompt for it. What it may
not serve it is known to have, as failed, with the reason; a speed far from what its hardware can do counts as the
fastest that is believable, until its answers have shown otherwise.
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from protos.contract.curve import Curve
from protos.contract.worker import Hardware, InstanceState, ModelInstance, Speed
from router.capacity.speed import predict_speed

BELIEVED_FACTOR = 8.0
"""A speed so many times what its hardware is predicted to reach is believed: predictions of odd machines are off by
less, and a model that lies in a processor's cache is faster than its memory.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What an operator decided. ``allowed``: names, or patterns such as ``llama-*``; empty: any. ``refused``: names
    that were taken from it. ``believed``: its speeds are taken as they are.
    """

    allowed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    believed: bool = True

    def why_not(self, model: str) -> str:
        """Why a worker may not serve a model; empty: it may.

        >>> ModelRules(allowed=("llama-*",)).why_not("qwen3-8b")
        'not let in to serve qwen3-8b: its token names llama-*'
        """
        if model in self.refused:
            return f"{model} was taken from this machine by an operator"
        if self.allowed and not any(fnmatchcase(model, one) for one in self.allowed):
            return f"not let in to serve {model}: its token names {', '.join(self.allowed)}"
        return ""


def as_believed(instance: ModelInstance, hardware: Hardware, rules: ModelRules) -> ModelInstance:
    """The instance as the rest of the router may take it."""
    reason = rules.why_not(instance.model)
    if reason:
        return replace(instance, state=InstanceState.FAILED, error=reason)
    if rules.believed or instance.speed is None or not instance.parameters:
        return instance
    claimed, predicted = instance.speed, predict_speed(hardware, replace(instance, speed=None))
    slower = believable_factor(claimed, predicted)
    if slower <= 1.0:
        return instance
    told = (
        f"claims to be {BELIEVED_FACTOR * slower:.0f} times as fast as its hardware; counted as {BELIEVED_FACTOR:.0f}"
    )
    return replace(instance, speed=_slowed(claimed, slower), error=instance.error or f"{told} until measured")


def believable_factor(claimed: Speed, predicted: Speed) -> float:
    """How many times slower a claim must be to be believed; 1 or less: it is."""
    steps = [(claimed.step_s(batch, 0.0), predicted.step_s(batch, 0.0)) for batch in (1, 8)]
    factors = [expected / (BELIEVED_FACTOR * said) for said, expected in steps if said > 0.0]
    if claimed.prefill_tokens_per_s > 0.0 and predicted.prefill_tokens_per_s > 0.0:
        factors.append(claimed.prefill_tokens_per_s / (BELIEVED_FACTOR * predicted.prefill_tokens_per_s))
    return max(factors, default=1.0)


def _slowed(speed: Speed, factor: float) -> Speed:
    return replace(
        speed,
        base_s=speed.base_s * factor,
        per_sequence_s=speed.per_sequence_s * factor,
        per_context_token_s=speed.per_context_token_s * factor,
        prefill_tokens_per_s=speed.prefill_tokens_per_s / factor,
        prefill_base_s=speed.prefill_base_s * factor,
        decode_curve=_curve(speed.decode_curve, factor),
        prefill_curve=_curve(speed.prefill_curve, factor),
        measured=False,
    )


def _curve(curve: Curve, factor: float) -> Curve:
    return tuple(replace(point, seconds=point.seconds * factor) for point in curve)
