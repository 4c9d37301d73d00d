"""A model's folder as its owner named it, or one line with what vLLM needs instead."""

from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.hf_folder import CONFIG, HfFolder, read_config
from workers.engines.base import LoadError


def read_folder(path: Path) -> HfFolder:
    """From config.json and the headers of the weights. Raises LoadError in one line: what, where, what to do."""
    if not path.exists():
        raise LoadError(f"{path}: no such folder; check the path")
    if path.is_file():
        raise LoadError(
            f"{path}: is a file; vLLM needs a model's folder with config.json (GGUF files: --engine llama.cpp)"
        )
    if not (path / CONFIG).exists():
        raise LoadError(f"{path}: has no config.json; it must be a Hugging Face model folder")
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise LoadError(f"{path}: has no weights (*.safetensors); the download is not complete")
    try:
        return read_config(path / CONFIG)
    except BadModelFile as error:
        raise LoadError(str(error)) from None
