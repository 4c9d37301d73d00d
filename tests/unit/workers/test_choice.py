"""What a joining machine could serve, by the files it has."""

import shutil
from pathlib import Path

import pytest

from workers.choice import local_options
from workers.facts import Offer


def offer(model: str, quantization: str) -> Offer:
    return Offer(
        model=model,
        quantization=quantization,
        predicted_tokens_per_s=1.0,
        predicted_prefill_tokens_per_s=1.0,
        memory_bytes=1.0,
        reason="",
    )


@pytest.mark.model
def test_the_header_says_what_a_file_holds_not_its_name(model_files: dict[str, Path], tmp_path: Path) -> None:
    """A file that was renamed is offered as what it is."""
    liar = tmp_path / "smollm2-135m-q2_k.gguf"
    shutil.copy(model_files["q8_0"], liar)
    (option,) = local_options(tmp_path, ())
    assert option.quantization == "q8_0"


def test_a_file_that_cannot_be_read_goes_by_its_name(tmp_path: Path) -> None:
    """The engine will say what is wrong with it, if it is chosen."""
    (tmp_path / "llama-3.1-8b-q4_k_m.gguf").write_bytes(b"")
    (option,) = local_options(tmp_path, (offer("llama-3.1-8b", "q4_k_m"),))
    assert (option.name, option.quantization) == ("llama-3.1-8b", "q4_k_m")
    assert option.offer is not None


def test_only_the_first_part_of_a_split_model_is_offered(tmp_path: Path) -> None:
    """llama.cpp finds the others by itself."""
    for part in (1, 2, 3):
        (tmp_path / f"big-q4_k_m-{part:05}-of-00003.gguf").write_bytes(b"")
    assert [Path(one.path).name for one in local_options(tmp_path, ())] == ["big-q4_k_m-00001-of-00003.gguf"]
