"""What a running server tells about itself: its models, their quantization, context and slots."""

from dataclasses import replace
from typing import Any

from protos.contract.models.model_name import quantization_in
from protos.contract.models.quantization import canonical
from workers.engines.base import LoadError
from workers.engines.openai_compatible import servers
from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_client import ServerClient, Unreachable
from workers.engines.openai_compatible.servers import ServerFacts


async def discover(base_url: str, api_key: str = "") -> tuple[str, ...]:
    """The models a server offers, by its own names. Raises LoadError with one clear line."""
    async with ServerClient(base_url, api_key) as client:
        return tuple(one["id"] for one in await list_models(client))


async def list_models(client: ServerClient) -> list[dict[str, Any]]:
    """``/v1/models``. Raises LoadError: not reached, not let in, no such API there."""
    where = client.base_url
    try:
        told = await client.ask("models")
    except Unreachable as error:
        raise LoadError(f"no server answers at {where}: {error}; start it, or correct --base-url") from None
    if told.status in (401, 403):
        raise LoadError(f"the server at {where} wants a key: put it into the variable that api_key_env names")
    said = told.json() if told.status == 200 else None
    listed = said.get("data") if isinstance(said, dict) else None
    if not isinstance(listed, list):
        raise LoadError(f"{where}models is not OpenAI's API (status {told.status}); the base URL mostly ends in /v1")
    models = [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if not models:
        raise LoadError(f"the server at {where} has no model loaded")
    return models


async def facts_about(client: ServerClient, wanted: str) -> ServerFacts:
    """Everything the server tells about one model. Raises LoadError when it does not have it."""
    models = await list_models(client)
    entry = next((one for one in models if one["id"] == wanted), None)
    if entry is None and (wanted or len(models) > 1):
        names = ", ".join(one["id"] for one in models[:8])
        raise LoadError(f"the server at {client.base_url} does not have {wanted or 'one model alone'}; it has {names}")
    entry = entry or models[0]
    facts = (
        await servers.llama_server(client, entry)
        or await servers.ollama(client, entry)
        or await servers.lm_studio(client, entry)
        or servers.batching(entry)
        or ServerFacts(flavor=Flavor.PLAIN, model=entry["id"])
    )
    named = quantization_in(entry["id"]) or quantization_in(str(entry.get("root", "")))
    return replace(facts, quantization=canonical(facts.quantization or named))
