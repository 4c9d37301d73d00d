"""Which files a model is made of, and what they are called elsewhere."""

from pathlib import Path

import pytest

from protos.contract.files.content import FilePart, content_of
from protos.contract.files.parts import entry_last, entry_of, folder_name, local_names, model_files
from protos.contract.models.errors import BadModelFile
from protos.contract.models.model_name import parse_name


def write(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def names(path: Path) -> list[str]:
    return [one.name for one in model_files(path)]


def test_a_gguf_file_is_a_model_by_itself(tmp_path: Path) -> None:
    """Whatever lies beside it."""
    write(tmp_path, "a.gguf", "b.gguf", "config.json")
    assert names(tmp_path / "a.gguf") == ["a.gguf"]


def test_a_split_model_is_all_its_parts(tmp_path: Path) -> None:
    """Named by the first; one that is missing is named."""
    write(tmp_path, *(f"a-{n:05d}-of-00003.gguf" for n in (1, 2, 3)))
    assert names(tmp_path / "a-00001-of-00003.gguf") == [f"a-{n:05d}-of-00003.gguf" for n in (1, 2, 3)]
    (tmp_path / "a-00002-of-00003.gguf").unlink()
    with pytest.raises(BadModelFile, match=r"a-00002-of-00003\.gguf is missing"):
        model_files(tmp_path / "a-00001-of-00003.gguf")
    with pytest.raises(BadModelFile, match="is part 3 of 3"):
        model_files(tmp_path / "a-00003-of-00003.gguf")


def test_a_folder_is_its_weights_and_what_is_read_beside_them(tmp_path: Path) -> None:
    """Not its readme, nor pickled weights where there are others, nor what hides."""
    write(
        tmp_path, "config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin", ".cache.json"
    )
    write(tmp_path / "onnx", "model.json")
    expected = ["config.json", "model.safetensors", "tokenizer.json"]
    assert names(tmp_path) == names(tmp_path / "config.json") == expected


def test_pickled_weights_count_where_there_are_no_others(tmp_path: Path) -> None:
    """Old models have nothing else."""
    write(tmp_path, "config.json", "pytorch_model.bin")
    assert names(tmp_path) == ["config.json", "pytorch_model.bin"]


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    """With what to name instead."""
    with pytest.raises(BadModelFile, match=r"no config\.json; name a folder"):
        model_files(tmp_path)
    with pytest.raises(BadModelFile, match=r"a\.gguf is missing"):
        model_files(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("name", "model", "quantization"),
    [
        ("smollm2-135m-q8_0.gguf", "smollm2-135m", "q8_0"),
        ("Weird.gguf", "smollm2-135m", "q8_0"),
        ("x.gguf", "org/Model: large", "q4_k_m"),
        ("x.gguf", "plain", ""),
    ],
)
def test_a_file_is_known_again_by_the_name_it_gets(name: str, model: str, quantization: str) -> None:
    """A scan of the folder reads model and quantization from names."""
    content = content_of([FilePart(name=name, size_bytes=1, sha256="ab" * 32)])
    local = local_names(content, model, quantization)[name]
    parsed = parse_name(local)
    assert "/" not in local
    assert (parsed.model, parsed.quantization) == (parse_name(folder_name(model, quantization)).model, quantization)


def test_parts_of_a_split_model_stay_parts() -> None:
    """The numbers are kept."""
    content = content_of(FilePart(name=f"w-{n:05d}-of-00002.gguf", size_bytes=1, sha256=f"{n}" * 64) for n in (1, 2))
    assert sorted(local_names(content, "m", "q8_0").values()) == [
        "m@q8_0-00001-of-00002.gguf",
        "m@q8_0-00002-of-00002.gguf",
    ]


def test_what_a_scan_looks_for_appears_last() -> None:
    """A model whose files are still being put in place is not found."""
    folder = ["config.json", "a.safetensors", "tokenizer.json"]
    split = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
    assert entry_last(folder)[-1] == "config.json"
    assert entry_last(split)[-1] == "a-00001-of-00002.gguf"
    assert (entry_of(folder), entry_of(split)) == ("", "a-00001-of-00002.gguf")
