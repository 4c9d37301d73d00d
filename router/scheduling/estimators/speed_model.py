"""How fast each instance really is: the profile's parameters, corrected by what the worker does.

One estimator per (worker, model, quantization). It starts from the join benchmark (``instance.speed``) or, without
one, from the prediction for the hardware. Every reported engine step and, where an engine reports none, every
finished request teaches it: ``step = base + per_sequence * b + per_context_token * C + per_prefill_token * p``. A step
that says several tokens of each sequence (speculation) counts as so many. Of a measured curve what every step takes is
the base, and what it takes beyond that grows or shrinks as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protos.contract.curve import Curve, CurvePoint
from protos.contract.worker import Hardware, InstanceState, Load, ModelInstance, Speed
from router.domain.placement import Outcome
from router.domain.snapshot import WorkerView
from router.scheduling.estimators.recursive_least_squares import RelativeLeastSquares
from router.scheduling.placement.candidates import InstanceKey

WORTH_TELLING = 0.002
"""By so much must a curve move to be written anew: its points take as long to write as a decision to use them."""

MOST_ACCEPTED = 32.0
"""Proposals of a sequence that one step is believed to have accepted."""

SpeedPredictor = Callable[[Hardware, ModelInstance], Speed]
"""From a machine and a model to a guess; ``router.capacity.speed.predict_speed`` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a dispatch assumed, kept until its outcome comes."""

    key: InstanceKey
    batch: float
    context_tokens: float
    uncached_tokens: float
    wait_s: float
    rtt_s: float
    tpot_s: float
    sent_tokens: float = 0.0  # prompt tokens sent to the instance up to this dispatch, this one's included


class SpeedModel:
    """Speeds of all instances. ``changed`` names those whose parameters moved since it was last asked."""

    def __init__(self, predict: SpeedPredictor) -> None:
        self._predict = predict
        self._estimates: dict[InstanceKey, _Estimate] = {}
        self._moved: set[InstanceKey] = set()

    def ensure(self, key: InstanceKey, view: WorkerView, instance: ModelInstance) -> None:
        """Start from the profile, or start again when a benchmark replaced it or the worker restarted."""
        estimate = self._estimates.get(key)
        if estimate is not None and estimate.belongs_to(view, instance):
            return
        prior = instance.speed if usable(instance.speed) else self._predict(view.profile.hardware, instance)
        assert prior is not None
        self._estimates[key] = _Estimate(prior, instance.speed, view.profile.incarnation)
        self._moved.add(key)

    def speed(self, key: InstanceKey) -> Speed:
        """Parameters as they are believed now. Raises KeyError for an instance never seen."""
        return self._estimates[key].current()

    def observed(self, view: WorkerView) -> None:
        """A load report came. It teaches only where it is clear which instance ran the step."""
        load = view.load
        ready = [m for m in view.models if m.state is InstanceState.READY]
        if len(ready) != 1 or load.last_step_s <= 0.0:
            return
        key = InstanceKey(view.worker_id, ready[0].model, ready[0].quantization)
        estimate = self._estimates.get(key)
        if estimate is None or estimate.last_step == load.step_sequence:
            return
        yielded = estimate.tokens_per_step(load)
        estimate.last_step, estimate.last_accepted = load.step_sequence, load.draft_accepted
        if load.last_step_batch == 0 and load.last_step_prefill_tokens == 0:
            return
        if estimate.learn(
            float(load.last_step_batch),
            float(load.context_tokens),
            float(load.last_step_prefill_tokens),
            load.last_step_s / yielded,
        ):
            self._moved.add(key)

    def sent(self, key: InstanceKey, uncached_tokens: float) -> float:
        """A prompt goes to the instance; how many tokens went there so far."""
        estimate = self._estimates.get(key)
        if estimate is None:
            return 0.0
        estimate.sent_tokens += uncached_tokens
        return estimate.sent_tokens

    def finished(self, expected: Expectation, outcome: Outcome, *, reports_steps: bool) -> None:
        """An attempt ended as usual: learn from its times what its steps did not tell."""
        estimate = self._estimates.get(expected.key)
        if estimate is None or outcome.ttft_s is None or outcome.completion_tokens < 2:
            return
        steps = outcome.completion_tokens - 1
        tpot = (outcome.e2e_s - outcome.ttft_s) / steps
        if not reports_steps:
            # Prompts sent after this one were prefilled between its tokens.
            between = (estimate.sent_tokens - expected.sent_tokens) / steps
            moved = estimate.learn(expected.batch, expected.context_tokens, between, tpot)
            if expected.wait_s <= 0.0:
                prefill = outcome.ttft_s - expected.rtt_s
                moved |= estimate.learn(expected.batch, expected.context_tokens, expected.uncached_tokens, prefill)
            if moved:
                self._moved.add(expected.key)

    def changed(self) -> set[InstanceKey]:
        """Instances whose speed moved since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone."""
        self._estimates.pop(key, None)
        self._moved.discard(key)


class _Estimate:
    """One instance's prior and what has been learnt about it."""

    __slots__ = (
        "_current", "_incarnation", "_reported", "_told", "last_accepted", "last_step", "prior", "rls", "sent_tokens",
    )  # fmt: skip

    def __init__(self, prior: Speed, reported: Speed | None, incarnation: str) -> None:
        self.prior = prior
        self._current: Speed | None = None
        self._told = [1.0] * 4
        self.rls = RelativeLeastSquares(4)
        self.last_step = -1
        self.last_accepted = 0
        self.sent_tokens = 0.0
        self._reported = reported
        self._incarnation = incarnation

    def belongs_to(self, view: WorkerView, instance: ModelInstance) -> bool:
        same = instance.speed is self._reported or instance.speed == self._reported
        return same and view.profile.incarnation == self._incarnation

    def tokens_per_step(self, load: Load) -> float:
        """Of each sequence, since the last report: a step that verified proposals took longer and said more."""
        steps, accepted = load.step_sequence - self.last_step, load.draft_accepted - self.last_accepted
        if self.last_step < 0 or steps <= 0 or accepted <= 0 or load.last_step_batch == 0:
            return 1.0
        return 1.0 + min(accepted / (steps * load.last_step_batch), MOST_ACCEPTED)

    def learn(self, batch: float, context: float, prefill: float, measured_s: float) -> bool:
        prior = self.prior
        base, sequences = (
            (prior.prefill_fixed_s, 0.0) if batch <= 0 else (prior.decode_fixed_s, prior.sequences_s(batch))
        )
        contributions = (base, sequences, prior.per_context_token_s * context, prior.tokens_s(prefill))
        learnt = self.rls.observe(contributions, measured_s)
        return learnt and self._moves()

    def _moves(self) -> bool:
        """Whether what was learnt is worth telling. A line is told whatever moved, so that decisions stay what they
        were before there were curves.
        """
        told, found = self._told, self.rls.multipliers
        if self.prior.decode_curve and all(
            abs(one - was) <= WORTH_TELLING * was for one, was in zip(found, told, strict=True)
        ):
            return False
        self._told = list(found)
        self._current = None
        return True

    def current(self) -> Speed:
        if self._current is None:
            self._current = _corrected(self.prior, self.rls)
        return self._current


def _corrected(prior: Speed, learnt: RelativeLeastSquares) -> Speed:
    if not learnt.observations:
        return prior
    base, sequence, context, prefill = learnt.multipliers
    return Speed(
        base_s=prior.base_s * base,
        per_sequence_s=prior.per_sequence_s * sequence,
        per_context_token_s=prior.per_context_token_s * context,
        prefill_tokens_per_s=prior.prefill_tokens_per_s / prefill,
        prefill_base_s=prior.prefill_base_s * base,
        measured=True,
        decode_curve=_stretched(prior.decode_curve, prior.decode_fixed_s, base, sequence),
        prefill_curve=_stretched(prior.prefill_curve, prior.prefill_fixed_s, base, prefill),
    )


def _stretched(curve: Curve, fixed_s: float, fixed: float, rest: float) -> Curve:
    """``fixed`` times as long in what no point is without, ``rest`` times in what lies above."""
    return tuple(
        CurvePoint(at=one.at, seconds=fixed * fixed_s + rest * max(one.seconds - fixed_s, 0.0)) for one in curve
    )


def usable(speed: Speed | None) -> bool:
    """A speed that prices anything: a worker that reports zeros has reported nothing."""
    return speed is not None and speed.prefill_tokens_per_s > 0.0 and speed.step_s(1, 0) > 0.0
