"""What can be known of the models before a machine joins: a token is not spent on a file that is not there."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from workers.config import NO_BASE_URL, ConfigError, ModelConfig
from workers.engines.base import LoadError
from workers.engines.openai_compatible.discovery import discover
from workers.engines.simulated.hardware import declared_hardware
from workers.models.gguf_file import read_gguf


async def check_models(engine: str, models: Sequence[ModelConfig], *, base_url: str = "", api_key: str = "") -> None:
    """Files are there and their headers can be read; a running server answers and has what is named.

    Raises LoadError or ConfigError with the line that loading would have ended in. What a folder or a hub's repository
    holds is the engine's to say, later.
    """
    if engine == "openai":
        if not base_url:
            raise ConfigError(NO_BASE_URL)
        await _check_server(base_url, api_key, models)
    else:
        for one in models:
            await asyncio.to_thread(_check_file, engine, one.path)


async def _check_server(base_url: str, api_key: str, models: Sequence[ModelConfig]) -> None:
    held = await discover(base_url, api_key)
    for one in models:
        if one.path not in held:
            raise LoadError(f"the server at {base_url} does not have {one.path}; it has {', '.join(held[:8])}")


def _check_file(engine: str, path: str) -> None:
    if engine == "llama.cpp":
        read_gguf(Path(path))
    elif engine == "simulated":
        declared_hardware(path)
    elif path.startswith(("/", "./", "../")) and not Path(path).exists():
        raise LoadError(f"{path}: no such file or folder; check the path")
