"""What the join benchmark found: the speed that a router is told, and what it was fitted to, which stays here."""

from dataclasses import dataclass, field

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
class Level:
    """One batch that decoded until its steps had settled. ``step_s``: their median; ``spread``: between their
    quartiles, relative to it.
    """

    batch: int
    context_tokens: int  # in all sequences together
    step_s: float
    spread: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTime:
    """One prompt where nothing else ran: seconds from its submission to its first token."""

    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one run of the join benchmark saw. ``again``: levels that were measured a second time, at its end."""

    samples: tuple[StepSample, ...] = ()
    levels: tuple[Level, ...] = ()
    long: tuple[Level, ...] = ()
    prompts: tuple[PromptTime, ...] = ()
    again: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpeed(Speed):
    """A speed with the steps it explains, how well it does, and what it depends on.

    ``fit_error``: how far the curve lies from levels that were measured again (relative, the median).
    ``depends_on``: machine, driver, engine, options and power state of the measurement, by name.
    """

    measured: bool = True
    effective_bandwidth_bytes_per_s: float = 0.0
    samples: tuple[StepSample, ...] = ()
    measured_at_unix_s: float = 0.0
    fit_error: float = 0.0
    depends_on: dict[str, str] = field(default_factory=dict)
