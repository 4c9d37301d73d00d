"""Load on demand over the simulated engine: machines of any size, whose memory is reckoned and not there."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.one_pool import OnePool, one_pool

RULES = {"residence_s": 0.1, "turn_s": 0.5, "drain_s": 5.0}
NAMES = ("llama-3.1-8b", "qwen3-8b")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnePool]:
    """A machine with room for one model of 8 billion parameters."""
    with (
        one_pool(tmp_path_factory.mktemp("simulated-turns")) as one,
        one.working("sim", "--engine", "simulated", "--wait-for-models", "--max-memory", "8GiB"),
    ):
        one.until(lambda: one.worker("sim"))
        yield one


def model(name: str) -> dict[str, Any]:
    """By the name of a profile, which is what the simulated engine loads."""
    source = {"path": "rtx-4090", "quantization": "q4_k_m"}
    return {"name": name, "sources": [source], "copies": {"min": 0, "max": 1}, "engine": "simulated"}


def test_ten_alternating_requests_over_a_simulated_machine(pool: OnePool) -> None:
    """Every one is answered, by one swap for each change of the model at most."""
    body = {"state": {"models": [model(name) for name in NAMES], "rules": RULES}, "version": 0}
    assert httpx.post(f"{pool.url}/admin/desired", json=body).status_code == 200
    for number in range(10):
        reply = pool.chat(NAMES[number % 2], max_tokens=2)
        assert reply.status_code == 200, reply.text
        assert len(pool.models("sim")) == 1
    assert (pool.folder / "router.log").read_text().count("model.load_ordered") <= 10
