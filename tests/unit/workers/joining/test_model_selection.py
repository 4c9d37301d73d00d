"""What a joining machine could serve, by the files it has."""

import shutil
from pathlib import Path

import pytest

from protos.contract.joining.enrolment import ModelOffer
from protos.contract.worker import ModelInstance
from workers.config import ModelConfig
from workers.engines.base import LoadError
from workers.engines.table import ENGINES
from workers.joining.model_selection import MAX_TOLD, local_options, models_here

LLAMA_CPP = ENGINES["llama.cpp"]


def offer(model: str, quantization: str) -> ModelOffer:
    return ModelOffer(
        model=model,
        quantization=quantization,
        tokens_per_s=1.0,
        prefill_tokens_per_s=1.0,
        memory_bytes=1.0,
        reason="",
    )


@pytest.mark.model
def test_the_header_says_what_a_file_holds_not_its_name(model_files: dict[str, Path], tmp_path: Path) -> None:
    """A file that was renamed is offered as what it is."""
    liar = tmp_path / "smollm2-135m-q2_k.gguf"
    shutil.copy(model_files["q8_0"], liar)
    (option,) = local_options(LLAMA_CPP, tmp_path, ())
    assert option.quantization == "q8_0"


def test_a_file_that_cannot_be_read_goes_by_its_name(tmp_path: Path) -> None:
    """The engine will say what is wrong with it, if it is chosen."""
    (tmp_path / "llama-3.1-8b-q4_k_m.gguf").write_bytes(b"")
    (option,) = local_options(LLAMA_CPP, tmp_path, (offer("llama-3.1-8b", "q4_k_m"),))
    assert (option.name, option.quantization) == ("llama-3.1-8b", "q4_k_m")
    assert option.offer is not None


def test_only_the_first_part_of_a_split_model_is_offered(tmp_path: Path) -> None:
    """llama.cpp finds the others by itself."""
    for part in (1, 2, 3):
        (tmp_path / f"big-q4_k_m-{part:05}-of-00003.gguf").write_bytes(b"")
    assert [Path(one.path).name for one in local_options(LLAMA_CPP, tmp_path, ())] == ["big-q4_k_m-00001-of-00003.gguf"]


@pytest.mark.model
def test_the_router_is_told_what_the_files_headers_say(model_files: dict[str, Path], tmp_path: Path) -> None:
    """Of those named, else of those in the folder; what cannot be read or is no GGUF file is left out."""
    for file in model_files.values():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "broken-q8_0.gguf").write_bytes(b"GGUF but not for long")
    told = models_here(LLAMA_CPP, tmp_path)
    assert {one.key for one in told} == {("smollm2-135m", "q8_0"), ("smollm2-135m", "q4_k_m")}
    assert all(one.layers == 30 and one.weights_bytes > 50e6 for one in told)
    named = (ModelConfig(name="mine", path=str(model_files["q8_0"])), ModelConfig(name="folder", path=str(tmp_path)))
    assert [one.key for one in models_here(LLAMA_CPP, tmp_path, named)] == [("mine", "q8_0")]


def test_a_folder_full_of_files_is_told_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are read one after the other; a join must not wait for thousands."""
    for number in range(MAX_TOLD + 20):
        (tmp_path / f"m{number}-q8_0.gguf").write_bytes(b"")
    read: list[Path] = []

    def unreadable(path: Path) -> ModelInstance:
        read.append(path)
        raise LoadError("no header")

    monkeypatch.setattr(LLAMA_CPP, "read_model", unreadable)
    assert models_here(LLAMA_CPP, tmp_path) == ()
    assert len(read) == MAX_TOLD
