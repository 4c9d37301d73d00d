"""What a running server tells about itself: its models, their quantization, context and slots."""

from dataclasses import replace
from typing import Any

import httpx

from protos.contract.models.model_name import quantization_in
from protos.contract.models.quantization import canonical
from workers.engines.base import LoadError
from workers.engines.openai_compatible import servers
from workers.engines.openai_compatible.chunks import Flavor
from workers.engines.openai_compatible.servers import PROBE_TIMEOUT_S, ServerFacts


def new_client(base_url: str, api_key: str, *, connections: int = 8) -> httpx.AsyncClient:
    """A client with deadlines everywhere; 120 s is the longest pause between two chunks."""
    return httpx.AsyncClient(
        base_url=base_url.rstrip("/") + "/",
        headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(120.0, connect=PROBE_TIMEOUT_S, pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        trust_env=False,
    )


async def discover(base_url: str, api_key: str = "") -> tuple[str, ...]:
    """The models a server offers, by its own names. Raises LoadError with one clear line."""
    async with new_client(base_url, api_key) as client:
        return tuple(one["id"] for one in await list_models(client))


async def list_models(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """``/v1/models``. Raises LoadError: not reached, not let in, no such API there."""
    where = str(client.base_url)
    try:
        reply = await client.get("models", timeout=PROBE_TIMEOUT_S)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise LoadError(f"no server answers at {where}: {reason}; start it, or correct --base-url") from None
    if reply.status_code in (401, 403):
        raise LoadError(f"the server at {where} wants a key: put it into the variable that api_key_env names")
    try:
        models = [one for one in reply.raise_for_status().json()["data"] if isinstance(one.get("id"), str)]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError):
        raise LoadError(
            f"{where}models is not OpenAI's API (status {reply.status_code}); the base URL mostly ends in /v1"
        ) from None
    if not models:
        raise LoadError(f"the server at {where} has no model loaded")
    return models


async def facts_about(client: httpx.AsyncClient, wanted: str) -> ServerFacts:
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
        or servers.vllm(entry)
        or ServerFacts(flavor=Flavor.PLAIN, model=entry["id"])
    )
    named = quantization_in(entry["id"]) or quantization_in(str(entry.get("root", "")))
    return replace(facts, quantization=canonical(facts.quantization or named))
