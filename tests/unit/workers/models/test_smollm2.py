"""The small real model: each file says what it is and what it was made from."""

from pathlib import Path

import pytest

from protos.contract.models.gguf.model import read_gguf
from workers.errors import WorkerError
from workers.models.smollm2 import make, packaged_model

pytestmark = pytest.mark.model


@pytest.mark.parametrize("quantization", ["q8_0", "q4_k_m"])
def test_a_requantized_file_says_from_what(quantization: str, model_files: dict[str, Path]) -> None:
    """A Q8_0 made from a Q4_1 is no better than the Q4_1, and says so; its header says the rest."""
    facts = read_gguf(model_files[quantization])
    assert facts.quantization == quantization
    assert facts.lineage == "requantized from q4_1"
    assert (facts.layers, facts.kv_heads, facts.head_dim_k, facts.parameters) == (30, 3, 64, 134_515_008)
    assert 4.5 < facts.bits_per_weight < 9.0
    original = read_gguf(packaged_model())
    assert (original.quantization, original.lineage) == ("q4_1", "")


def test_what_cannot_be_made_names_what_can(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(WorkerError, match="cannot make q9_9; known quantizations: fp16, q3_k_m"):
        make(tmp_path, ["q9_9"])
