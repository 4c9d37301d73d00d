"""Finds sessions that fell silent and engines that hang under a live event loop. The judgement is pure."""

from dataclasses import dataclass
from enum import StrEnum

from router.config import FleetConfig
from router.domain.worker import Load

LONGEST_HANG_S = 60.0
"""However slow an engine's steps are, this much standstill is a hang."""


class Verdict(StrEnum):
    """What the watchdog thinks of a session."""

    ALIVE = "alive"
    SILENT = "silent"
    HANGING = "hanging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is known of a session when the watchdog looks."""

    now: float
    last_heard: float
    progress_at: float
    open_attempts: int
    load: Load


def hang_limit_s(load: Load, config: FleetConfig) -> float:
    """Standstill that counts as a hang: a floor, or a multiple of the engine's own recent step."""
    return min(LONGEST_HANG_S, max(config.hang_s, config.hang_factor * load.last_step_s))


def forgotten(signs: Signs) -> int:
    """Attempts that are open here and that the worker, by its own count, does not have."""
    return max(0, signs.open_attempts - signs.load.running - signs.load.waiting)


def judge(signs: Signs, config: FleetConfig) -> Verdict:
    """Silent: nothing heard. Hanging: heard, has work, and neither steps nor prefill move."""
    if signs.now - signs.last_heard > config.silence_s:
        return Verdict.SILENT
    has_work = signs.open_attempts > 0 or signs.load.running > 0 or signs.load.waiting > 0
    if has_work and signs.now - signs.progress_at > hang_limit_s(signs.load, config):
        return Verdict.HANGING
    return Verdict.ALIVE
