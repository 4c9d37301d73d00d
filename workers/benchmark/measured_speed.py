"""What the join benchmark found: the speed that a router is told, and what it was fitted to, which stays here."""

from dataclasses import dataclass

from protos.contract.worker import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One engine step, as the join benchmark timed it."""

    batch: int
    context_tokens: int  # in all sequences together
    prefill_tokens: int  # prefilled in the same step; 0: pure decode
    step_s: float
    prefills: int = 0  # sequences those tokens belong to; 0: not told, counted as one


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpeed(Speed):
    """A speed with the steps it explains."""

    measured: bool = True
    effective_bandwidth_bytes_per_s: float = 0.0
    samples: tuple[StepSample, ...] = ()
    measured_at_unix_s: float = 0.0
