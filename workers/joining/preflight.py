"""What can be known of the models before a machine joins: a token is not spent on a file that is not there."""

import asyncio
from collections.abc import Sequence

from workers.config import ConfigError, ModelConfig, no_base_url
from workers.engines.base import LoadError
from workers.engines.spec import EngineSpec


async def check_models(
    engine: EngineSpec, models: Sequence[ModelConfig], *, base_url: str = "", api_key: str = ""
) -> None:
    """Files are there and their headers can be read; a running server answers and has what is named.

    Raises LoadError or ConfigError with the line that loading would have ended in.
    """
    if not engine.asks_server:
        for one in models:
            await asyncio.to_thread(engine.check, one.path)
        return
    if not base_url:
        raise ConfigError(no_base_url(engine.name))
    held = await engine.discover(base_url, api_key)
    for one in models:
        if one.path not in held:
            raise LoadError(f"the server at {base_url} does not have {one.path}; it has {', '.join(held[:8])}")
