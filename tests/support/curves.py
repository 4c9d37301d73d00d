"""Measured curves for tests: drawn, and one that is known."""

from hypothesis import strategies as st

from protos.contract.curve import Curve, CurvePoint


def curve(*points: tuple[int, float]) -> Curve:
    """From pairs."""
    return tuple(CurvePoint(at=at, seconds=seconds) for at, seconds in points)


H100_70B = curve((1, 0.0238), (2, 0.0252), (4, 0.0362), (8, 0.0582), (16, 0.0458), (32, 0.0578), (64, 0.0826))
"""Decode steps of a 70B in Q4_K_M under llama.cpp on one H100 80GB HBM3, 27 November 2026 (FACTS)."""

H100_8B = curve((1, 0.00627), (2, 0.00841), (4, 0.00849), (8, 0.00891), (16, 0.00965), (32, 0.01032), (64, 0.01264))
"""The same of an 8B in F16: it never falls."""

curves = st.lists(
    st.tuples(st.integers(1, 4096), st.floats(1e-4, 1.0)), min_size=1, max_size=8, unique_by=lambda p: p[0]
).map(lambda points: curve(*sorted(points)))
"""Any that a worker may send."""
