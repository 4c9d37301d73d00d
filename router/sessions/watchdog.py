"""Finds sessions that fell silent and engines that hang under a live event loop. The judgement is pure."""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.worker import Load
from router.config import FleetConfig

MAX_HANG_S = 60.0
"""However slow an engine's steps are, this much standstill is a hang."""

FIRST_STEP_S = 30.0
"""An engine of which no step is known yet may take so long: the first one often compiles or reads weights."""

LONG_STEPS = 3.0
"""Standstill that counts as a hang, in longest steps seen lately: behind a short step a long prefill may come."""


LATE_S = 1.0
"""A look so much later than planned says more about this router than about its workers: what they said meanwhile lies
unread. The next look judges.
"""


class Health(StrEnum):
    """What the watchdog thinks of a session."""

    ALIVE = "alive"
    SILENT = "silent"
    HANGING = "hanging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """What is known of a session when the watchdog looks."""

    now: float
    last_heard: float
    progress_at: float
    open_attempts: int
    load: Load
    longest_step_s: float = 0.0  # lately
    unseen: int = 0  # of the open attempts, those sent after the last command that the load counts


def hang_limit_s(liveness: Liveness, config: FleetConfig) -> float:
    """Standstill that counts as a hang: a floor, or a multiple of the engine's own recent steps."""
    last = liveness.load.last_step_s
    if last <= 0.0:
        return max(config.hang_s, FIRST_STEP_S)
    return min(MAX_HANG_S, max(config.hang_s, config.hang_factor * last, LONG_STEPS * liveness.longest_step_s))


def forgotten(liveness: Liveness) -> int:
    """Attempts that are open here and that the worker, by its own count, does not have.

    One it had not heard of when it counted is not forgotten: it may be a worker that is behind with its reading.
    """
    return max(0, liveness.open_attempts - liveness.unseen - liveness.load.running - liveness.load.waiting)


def nobody_waits(load: Load) -> bool:
    """Whether every request the worker has should be getting tokens: none is queued there, none in prefill."""
    return load.waiting == 0 and load.prefill_tokens_pending == 0


def held_up(slept_s: float, interval_s: float) -> bool:
    """Whether the router itself stood still between two looks that should be ``interval_s`` apart."""
    return slept_s > interval_s + LATE_S


def judge(liveness: Liveness, config: FleetConfig) -> Health:
    """Silent: nothing heard. Hanging: heard, has work, and neither steps nor prefill move."""
    if liveness.now - liveness.last_heard > config.silence_s:
        return Health.SILENT
    has_work = liveness.open_attempts > 0 or liveness.load.running > 0 or liveness.load.waiting > 0
    if has_work and liveness.now - liveness.progress_at > hang_limit_s(liveness, config):
        return Health.HANGING
    return Health.ALIVE
