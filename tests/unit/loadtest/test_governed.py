"""Rule: a governor that learned costs and acceptance from noisy steps is off for good where no fixed length pays."""

import pytest

from loadtest.bench.speculation.governed import ACCEPTANCES, CURVES_MS, RTTS_MS, Case

NEVER = [
    case
    for curve in CURVES_MS
    for batch in (1, 4)
    for acceptance in ACCEPTANCES
    for rtt_ms in RTTS_MS
    if (case := Case(curve, batch, acceptance, rtt_ms / 1e3)).best()[0] == 0 and case.gain() > 0.9
]
"""Of small batches, those where some length would lose less than a tenth."""


@pytest.mark.parametrize("case", NEVER, ids=str)
def test_it_is_off_where_the_best_length_is_none(case: Case) -> None:
    """Probes aside, which lose little."""
    rate, on = case.governed(case.dice())
    assert on == 0.0
    assert rate >= 0.98 * case.best()[1]
