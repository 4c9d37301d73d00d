"""A server that already runs, before it is asked for anything but its models."""

from workers.engines.spec import EngineSpec


class OpenAICompatible(EngineSpec):
    """Whatever speaks OpenAI's API at a base URL."""

    name = "openai"
    serves = "a server that already runs, at --base-url"
    factory = "workers.engines.openai_compatible.engine:OpenAICompatibleEngine"
    asks_server = True

    async def discover(self, base_url: str, api_key: str) -> tuple[str, ...]:
        """Its ``/v1/models``."""
        from workers.engines.openai_compatible.discovery import discover

        return await discover(base_url, api_key)
