"""When a worker takes work, by what its machine is doing. Pure."""

from dataclasses import dataclass
from enum import StrEnum

USED_WITHIN_S = 300.0
"""A machine whose owner typed or pointed so lately is in use."""

BUSY_SHARE = 0.5
"""Of the cores: kept busy by the owner's programs, they are in use though nobody types (a build, a render)."""

QUIET_S = 60.0
"""So long must nothing speak against it before the door opens again: it would open and close with every compile."""


class When(StrEnum):
    """The owner's choice."""

    ALWAYS = "always"
    PLUGGED_IN = "plugged-in"
    IDLE = "idle"  # and plugged in: nobody wants a battery emptied while they are away


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the machine is doing now; None: it does not tell, which speaks against nothing."""

    on_battery: bool | None = None
    low_power: bool | None = None
    input_age_s: float | None = None  # since the owner last typed or pointed
    others_cpus: float | None = None  # kept busy by programs that are no workers
    cpus: int = 0


def price_s(now: Conditions, asked_s: float) -> float:
    """Seconds by which a request must be better off here: what the owner asks on battery and in low-power mode.

    >>> price_s(Conditions(on_battery=True), 5.0), price_s(Conditions(), 5.0)
    (5.0, 0.0)
    """
    return asked_s if now.on_battery or now.low_power else 0.0


def speaks_against(when: When, now: Conditions) -> str:
    """Why no work is to be taken; empty: nothing.

    >>> speaks_against(When.PLUGGED_IN, Conditions(on_battery=True))
    'on battery'
    >>> speaks_against(When.ALWAYS, Conditions(on_battery=True))
    ''
    """
    if when is When.ALWAYS:
        return ""
    if now.on_battery:
        return "on battery"
    if now.low_power:
        return "in low-power mode"
    if when is When.PLUGGED_IN:
        return ""
    if now.input_age_s is not None and now.input_age_s < USED_WITHIN_S:
        return "in use by its owner"
    if now.others_cpus is not None and now.cpus and now.others_cpus > BUSY_SHARE * now.cpus:
        return "busy with its owner's programs"
    return ""


class Door:
    """Closes at once and opens after a while in which nothing spoke against it. ``opens`` at the start."""

    def __init__(self, when: When) -> None:
        self._when = when
        self._reason = ""
        self._quiet_since: float | None = None

    def look(self, now: Conditions, at_s: float) -> str:
        """Why it is closed at ``at_s`` (monotonic); empty: it is open."""
        against = speaks_against(self._when, now)
        if against:
            self._reason, self._quiet_since = against, None
        elif self._reason:
            if self._quiet_since is None:
                self._quiet_since = at_s
            if at_s - self._quiet_since >= QUIET_S or self._when is When.PLUGGED_IN:
                self._reason = ""
        return self._reason
