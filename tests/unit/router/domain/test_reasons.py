"""Why nobody takes a request, in one line: by name in a small pool, by number in a large one, never without bound."""

from protos.contract.ids import WorkerId
from router.domain.placement import Exclusion, Exclusions, FilterName, NoCandidate


def excluded(number: int, kind: str, reason: str, quantization: str = "") -> Exclusion:
    return Exclusion(
        worker_id=WorkerId(f"w{number}"),
        node=f"mac-{number}",
        filter=FilterName(kind),
        reason=reason,
        quantization=quantization,
    )


def test_a_home_pool_is_told_machine_by_machine() -> None:
    """Two Macs: both by name, with what is the matter."""
    why = NoCandidate(
        model="m",
        exclusions=Exclusions(
            (
                excluded(1, "state", "worker is draining", "q8_0"),
                excluded(2, "model", "does not serve m (it holds x@q4_k_m)"),
            )
        ),
    )
    assert why.reasons() == "mac-1@q8_0: worker is draining; mac-2: does not serve m (it holds x@q4_k_m)"
    assert NoCandidate(model="m").reasons() == "no worker is in the pool"


def test_a_large_pool_is_counted_by_reason_with_a_few_examples() -> None:
    """Those that serve the model come first; whatever the pool's size, the line stays short."""
    serving = [excluded(n, "cordon", "cordoned by the operator") for n in range(3)]
    serving += [excluded(n, "kv", "needs about 9000 tokens") for n in range(3, 100)]
    others = [excluded(n, "model", "does not serve m (it holds " + "x@q8_0, " * 500 + ")") for n in range(100, 1000)]
    text = NoCandidate(model="m", exclusions=Exclusions(tuple(others + serving))).reasons()
    assert text.startswith(
        "of 1000 workers, 97 without room in their KV cache (such as mac-3: needs about 9000 tokens)"
    )
    assert ", 3 cordoned (such as mac-0: cordoned by the operator), 900 not serving the model" in text
    assert len(text) < 600


def test_a_worker_with_two_instances_is_one_worker() -> None:
    """Counts are of machines."""
    both = tuple(excluded(n, "quality", "below the floor", q) for n in range(3) for q in ("q4_0", "q4_k_m"))
    assert (
        NoCandidate(model="m", exclusions=Exclusions(both))
        .reasons()
        .startswith("of 3 workers, 3 below the quality floor")
    )
