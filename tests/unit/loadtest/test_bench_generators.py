"""``make bench-generators``: how far two load generators differ."""

from loadtest.bench.generators.__main__ import FIGURES, _row


def run(ttft: float) -> dict[str, float]:
    return {**dict.fromkeys(FIGURES, 40.0), "ttft_ms_p50": ttft}


def test_medians_over_the_rounds_are_compared() -> None:
    row = _row(8, [run(100.0), run(104.0), run(300.0)], [run(100.0), run(100.0), run(90.0)])
    assert row["users"] == 8
    assert row["ttft_ms_p50"] == [104.0, 100.0, 0.04]
    assert row["output_tokens"] == [40.0, 40.0, 0.0]
