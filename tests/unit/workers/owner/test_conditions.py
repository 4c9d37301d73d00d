"""Rule: a worker takes work when its owner said, stays out of the way at once, and comes back when it is quiet."""

import pytest

from workers.owner.conditions import QUIET_S, USED_WITHIN_S, Conditions, Door, When, speaks_against

ALWAYS, PLUGGED, IDLE = When
ON_BATTERY, SAVING = Conditions(on_battery=True), Conditions(low_power=True, on_battery=False)
TYPING, AWAY = Conditions(input_age_s=2.0), Conditions(input_age_s=USED_WITHIN_S)
BUILDING, RESTING = Conditions(others_cpus=5.0, cpus=8), Conditions(others_cpus=3.0, cpus=8)


@pytest.mark.parametrize(
    ("when", "now", "reason"),
    [
        (ALWAYS, ON_BATTERY, ""),
        (ALWAYS, TYPING, ""),
        (PLUGGED, ON_BATTERY, "on battery"),
        (PLUGGED, SAVING, "in low-power mode"),
        (PLUGGED, TYPING, ""),
        (PLUGGED, BUILDING, ""),
        (IDLE, ON_BATTERY, "on battery"),
        (IDLE, TYPING, "in use by its owner"),
        (IDLE, AWAY, ""),
        (IDLE, BUILDING, "busy with its owner's programs"),
        (IDLE, RESTING, ""),
        (IDLE, Conditions(), ""),  # a machine that tells nothing: a server without a desktop
    ],
)
def test_what_speaks_against_taking_work(when: When, now: Conditions, reason: str) -> None:
    assert speaks_against(when, now) == reason


def test_the_door_closes_at_once_and_opens_when_it_was_quiet_for_a_while() -> None:
    """A build that pauses for a moment does not open it."""
    door = Door(IDLE)
    assert door.look(RESTING, 0.0) == ""
    assert door.look(BUILDING, 1.0) == "busy with its owner's programs"
    assert door.look(RESTING, 2.0) != ""
    assert door.look(BUILDING, 3.0 + QUIET_S) != ""
    assert door.look(RESTING, 4.0 + QUIET_S) != ""
    assert door.look(RESTING, 3.9 + 2 * QUIET_S) != ""
    assert door.look(RESTING, 4.0 + 2 * QUIET_S) == ""


def test_a_plug_is_no_matter_of_patience() -> None:
    """It is in or out."""
    door = Door(PLUGGED)
    assert door.look(ON_BATTERY, 0.0) == "on battery"
    assert door.look(Conditions(on_battery=False), 1.0) == ""
