"""The engines by name, and what is known of them before one is made."""

import pytest

from protos.contract.worker import Hardware
from workers.engines.table import ENGINES

CPU = Hardware(kind="cpu", name="x", cores=8, details={"vector": "avx2"})


@pytest.mark.parametrize(
    ("engine", "asked", "told"), [("llama.cpp", 0, "8"), ("llama.cpp", 4, "4"), ("vllm", 6, "6"), ("vllm", 0, None)]
)
def test_a_processor_is_reported_with_the_threads_that_compute(
    engine: str, asked: int, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router prices those; an engine that decides itself is not spoken for."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = ENGINES[engine].with_threads(CPU, asked)
    assert found.details.get("threads") == told
    assert found.details["vector"] == "avx2"


def test_other_hardware_is_reported_as_it_is() -> None:
    """A GPU's speed has nothing to do with the processor's threads."""
    card = Hardware(kind="nvidia", name="NVIDIA H100")
    assert ENGINES["llama.cpp"].with_threads(card, 4) == card
