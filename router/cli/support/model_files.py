"""A model as people name it on the command line: a GGUF file, a config.json (or its folder), a name, a size."""

from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import read_gguf
from protos.contract.models.hf_folder import CONFIG, read_config
from protos.contract.models.model_name import parse_name
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import find_format, unknown_format
from router.capacity.shapes import find_shape, unknown_shape
from router.errors import ConfigError


def read_model(text: str) -> ModelShape:
    """The shape ``text`` means. Raises ConfigError: one line, with near matches where there are any."""
    path = Path(text).expanduser()
    try:
        shape = _read_file(path)
    except BadModelFile as error:
        raise ConfigError(str(error)) from None
    return _plannable(path, shape) if shape else _named(text)


def _read_file(path: Path) -> ModelShape | None:
    """None: it is no file, nor called like one."""
    if path.suffix.lower() == ".gguf":
        return read_gguf(path)
    if path.suffix.lower() == ".json":
        return read_config(path).shape
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        raise ConfigError(f"{path}: neither a .gguf file nor a config.json")
    return None


def _read_folder(folder: Path) -> ModelShape:
    """A Hugging Face folder, or one with a single GGUF model."""
    if (folder / CONFIG).is_file():
        return read_config(folder / CONFIG).shape
    firsts = [one for one in sorted(folder.glob("*.gguf")) if parse_name(one.name).shard <= 1]
    if len(firsts) == 1:
        return read_gguf(firsts[0])
    held = f"{len(firsts)} GGUF models; name one of them" if firsts else "neither config.json nor a .gguf file"
    raise ConfigError(f"{folder}: holds {held}")


def _plannable(path: Path, shape: ModelShape) -> ModelShape:
    """The shape, where it says enough to plan with. Raises ConfigError."""
    needed = {
        "layers": shape.layers,
        "a hidden size": shape.hidden,
        "attention heads": shape.heads,
        "a vocabulary": shape.vocabulary,
    }
    if missing := ", ".join(name for name, value in needed.items() if not value):
        raise ConfigError(f"{path}: names no {missing}; is this a language model's file?")
    if shape.quantization and find_format(shape.quantization) is None:
        raise ConfigError(f"{path}: {unknown_format(shape.quantization)}")
    return shape


def _named(text: str) -> ModelShape:
    named = parse_name(text)
    found = find_shape(text) or find_shape(named.model)
    if found is not None:
        return found
    hint = unknown_shape(named.model)
    raise ConfigError(f"model {text!r}: no such file, known name or size such as 8B, 8x7B or 30B-A3B; {hint}")
