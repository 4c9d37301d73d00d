"""Which files a model is made of, and what they are called where they are put."""

import re
from pathlib import Path

from protos.contract.files.content import UNFINISHED, ModelContent
from protos.contract.models.errors import BadModelFile
from protos.contract.models.model_name import parse_name

MAX_SHARDS = 1000

_OF_FOLDER = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", ".txt")
_ENTRY = ("config.json", "model.safetensors.index.json")
"""What tells a scan that a folder holds a model: put there last."""


def model_files(path: Path) -> list[Path]:
    """The files of the model at ``path``: a GGUF file (of a split one its first part), or a Hugging Face folder or its
    config.json. Raises BadModelFile. Blocks.
    """
    if path.name == "config.json":
        path = path.parent
    found = _of_folder(path) if path.is_dir() else _of_gguf(path)
    for one in found:
        if not one.is_file():
            raise BadModelFile(path, f"{one.name} is missing", "download it again")
    return found


def _of_gguf(path: Path) -> list[Path]:
    named = parse_name(path.name)
    if named.shards <= 1:
        return [path]
    if named.shard != 1 or named.shards > MAX_SHARDS:
        raise BadModelFile(path, f"is part {named.shard} of {named.shards}", f"name the first of at most {MAX_SHARDS}")
    end = f"-of-{named.shards:05d}{path.suffix}"
    start = path.name[: -len(f"00001{end}")]
    return [path.with_name(f"{start}{number:05d}{end}") for number in range(1, named.shards + 1)]


def _of_folder(folder: Path) -> list[Path]:
    """Weights, and what is read beside them. Pickled weights count where there are no others."""
    names = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    found = [one for one in names if one.name.endswith(_OF_FOLDER) and one.is_file()]
    if not any(one.suffix == ".safetensors" for one in found):
        found += [one for one in names if one.suffix == ".bin" and one.is_file()]
    if not any(one.name == "config.json" for one in found):
        raise BadModelFile(folder, "it has no config.json", "name a folder as Hugging Face keeps it, or a GGUF file")
    return found


def local_names(content: ModelContent, model: str, quantization: str) -> dict[str, str]:
    """What each part is to be called, by what it is called elsewhere; its folder apart (see ``folder_name``).

    A GGUF file keeps its name where that says which model it is.
    """
    return {part.name: _local_name(part.name, model, quantization) for part in content.parts}


def _local_name(name: str, model: str, quantization: str) -> str:
    if not name.endswith(".gguf"):
        return name
    named = parse_name(name)
    if named.model.lower() == model and quantization in ("", named.quantization):
        return name
    shard = f"-{named.shard:05d}-of-{named.shards:05d}" if named.shards else ""
    return f"{folder_name(model, quantization)}{shard}.gguf"


def folder_name(model: str, quantization: str) -> str:
    """As ``parse_name`` reads it again.

    >>> folder_name("org/Some Model", "awq")
    'org-Some Model@awq'
    """
    safe = re.sub(r'[/\\:"<>|?*\x00-\x1f]+', "-", model).lstrip(".-") or "model"
    return safe[:100] + (f"@{quantization}" if quantization else "")


def entry_last(names: list[str]) -> list[str]:
    """In the order in which they may appear one after the other: what a scan looks for comes last."""
    return sorted(names, key=lambda one: (one in _ENTRY, one == "config.json", parse_name(one).shard == 1, one))


def entry_of(names: list[str]) -> str:
    """The file that is named to load the model, or empty: its folder is."""
    ordered = entry_last(names)
    return ordered[-1] if ordered and ordered[-1].endswith(".gguf") else ""


def is_unfinished(path: Path) -> bool:
    """Whether a file is on its way still."""
    return path.name.endswith(UNFINISHED)
