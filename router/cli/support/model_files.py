"""A model as people name it on the command line: a GGUF file, a config.json (or its folder), a name, a size."""

import json
from pathlib import Path
from typing import Any

from router.capacity.formats import parse_name
from router.capacity.headers import shape_from_config, shape_from_gguf
from router.capacity.shapes import ModelShape, find_shape, unknown_shape
from router.cli.support.gguf_header import GgufHeader, read_header
from router.errors import ConfigError

MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20


def read_model(text: str) -> ModelShape:
    """The shape ``text`` means. Raises ConfigError: one line, with near matches where there are any."""
    path = Path(text).expanduser()
    if path.suffix.lower() == ".gguf":
        return read_gguf(path)
    if path.suffix.lower() == ".json":
        return read_config(path)
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        raise ConfigError(f"{path}: neither a .gguf file nor a config.json")
    named = parse_name(text)
    found = find_shape(text) or find_shape(named.model)
    if found is not None:
        return found
    hint = unknown_shape(named.model)
    raise ConfigError(f"model {text!r}: no such file, known name or size such as 8B, 8x7B or 30B-A3B; {hint}")


def read_gguf(path: Path) -> ModelShape:
    """All shards of a GGUF model, found by the first one's name."""
    header = read_header(path)
    rest = [read_header(one) for one in _other_shards(path)]
    parts: list[GgufHeader] = [header, *rest]
    return shape_from_gguf(
        str(path),
        header.fields,
        parameters=sum(one.parameters for one in parts),
        weights_bytes=sum(one.weights_bytes for one in parts),
        tensors=frozenset().union(*(one.tensors for one in parts)),
    )


def _other_shards(path: Path) -> list[Path]:
    named = parse_name(path.name)
    if named.shards <= 1:
        return []
    if named.shard != 1:
        raise ConfigError(f"{path}: is shard {named.shard} of {named.shards}; name the first, which has the fields")
    tail = f"-of-{named.shards:05d}.gguf"
    start = path.name[: -len(f"00001{tail}")]
    return [path.with_name(f"{start}{number:05d}{tail}") for number in range(2, named.shards + 1)]


def read_folder(folder: Path) -> ModelShape:
    """A Hugging Face folder, or one with a single GGUF model."""
    if (folder / "config.json").is_file():
        return read_config(folder / "config.json")
    files = sorted(folder.glob("*.gguf"))
    firsts = [one for one in files if parse_name(one.name).shard <= 1]
    if len(firsts) == 1:
        return read_gguf(firsts[0])
    held = f"{len(firsts)} GGUF models; name one of them" if firsts else "neither config.json nor a .gguf file"
    raise ConfigError(f"{folder}: holds {held}")


def read_config(path: Path) -> ModelShape:
    """A config.json; weights are counted where they lie beside it."""
    config = _json(path, MAX_CONFIG_BYTES)
    return shape_from_config(str(path), config, weights_bytes=_weights_beside(path.parent))


def _weights_beside(folder: Path) -> int:
    """Bytes of the safetensors in ``folder``: those there, else what the index says they are; 0: unknown."""
    held = sum(one.stat().st_size for one in folder.glob("*.safetensors"))
    if held:
        return held
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return 0
    metadata = _json(index, MAX_INDEX_BYTES).get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return int(total) if isinstance(total, int | float) and 0 < total < 2**60 else 0


def _json(path: Path, most: int) -> dict[str, Any]:
    try:
        if path.stat().st_size > most:
            raise ConfigError(f"{path}: has more than {most >> 20} MiB; is this the right file?")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{path}: not valid JSON: it is no text, or nested too deep") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds no JSON object")
    return found
