"""Names of models are remembered within a bound, whatever workers claim to serve."""

import pytest

from router.domain.clock import ManualClock
from router.fleet import model_names
from router.fleet.model_names import ModelNames


def test_at_the_limit_what_nobody_serves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where all are served, a newcomer is not remembered: it is served all the same."""
    monkeypatch.setattr(model_names, "LIMIT", 3)
    names = ModelNames(ManualClock())
    for name in "abc":
        names.see(name, "abc")
    names.see("d", "bd")
    assert names.all() == ("b", "d")
    names.see("e", "bde")
    names.see("f", "bdef")
    assert names.all() == ("b", "d", "e")
    assert len(names.to_keep("bdefgh")) == 3


def test_what_is_expected_is_known_until_its_time_is_over() -> None:
    """Those that came back stay known."""
    clock = ManualClock()
    names = ModelNames(clock)
    names.expect(["m", "n"], until=clock.now() + 10)
    names.see("n", ["n"])
    assert names.all() == ("n", "m")
    assert names.to_keep(["n"]) == ("m", "n")
    clock.advance(10)
    assert names.all() == ("n",)
    assert names.to_keep(["n"]) == ("n",)
