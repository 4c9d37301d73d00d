"""What a running server tells about itself: its models, their quantization, context and slots."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import httpx

from workers.engines.base import LoadError
from workers.engines.openai_compatible.chunks import Flavor
from workers.shelf import guess_quantization

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Facts about one model behind a base URL; zero or empty: the server does not tell."""

    flavor: Flavor
    model: str  # what the server calls it
    quantization: str = ""
    context_tokens: int = 0
    slots: int = 0
    parameters: int = 0
    weights_bytes: int = 0
    version: str = ""
    chat_template_fingerprint: str = ""


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
        await _llama_server(client, entry)
        or await _ollama(client, entry)
        or _vllm(entry)
        or ServerFacts(flavor=Flavor.PLAIN, model=entry["id"])
    )
    named = guess_quantization(entry["id"]) or guess_quantization(str(entry.get("root", "")))
    return replace(facts, quantization=(facts.quantization or named).lower())


async def _json(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    """An answer of the server outside ``/v1``, or None where there is no such path."""
    root = client.base_url.copy_with(raw_path=b"/")
    try:
        reply = await client.request(method, root.join(path), json=body, timeout=PROBE_TIMEOUT_S)
        return reply.json() if reply.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None


async def _llama_server(client: httpx.AsyncClient, entry: dict[str, Any]) -> ServerFacts | None:
    """llama.cpp's own server: ``/props`` and the ``meta`` of its model list."""
    props = await _json(client, "GET", "/props")
    if not isinstance(props, dict) or "default_generation_settings" not in props:
        return None
    meta = entry.get("meta") or {}
    template = str(props.get("chat_template") or "")
    return ServerFacts(
        flavor=Flavor.LLAMA_SERVER,
        model=entry["id"],
        quantization=_file_type(str(props.get("model_ftype") or meta.get("ftype") or ""))
        or guess_quantization(str(props.get("model_path") or "")),
        context_tokens=int((props["default_generation_settings"] or {}).get("n_ctx") or 0),
        slots=int(props.get("total_slots") or 0),
        parameters=int(meta.get("n_params") or 0),
        weights_bytes=int(meta.get("size") or 0),
        version=str(props.get("build_info") or ""),
        chat_template_fingerprint=hashlib.sha256(template.encode()).hexdigest()[:16] if template else "",
    )


def _file_type(text: str) -> str:
    """llama.cpp's name of a file type as ours: ``Q4_K - Medium`` is q4_k_m."""
    name, _, size = text.partition(" - ")
    return name.strip().lower() + (f"_{size.strip()[:1].lower()}" if size else "")


async def _ollama(client: httpx.AsyncClient, entry: dict[str, Any]) -> ServerFacts | None:
    """Ollama: ``/api/show`` has the quantization, ``/api/ps`` the context it runs with."""
    shown = await _json(client, "POST", "/api/show", {"model": entry["id"]})
    if not isinstance(shown, dict) or "details" not in shown:
        return None
    running = await _json(client, "GET", "/api/ps") or {}
    loaded: dict[str, Any] = next((one for one in running.get("models") or [] if one.get("name") == entry["id"]), {})
    info = shown.get("model_info") or {}
    version = await _json(client, "GET", "/api/version") or {}
    trained = next((int(value) for key, value in info.items() if key.endswith(".context_length")), 0)
    return ServerFacts(
        flavor=Flavor.OLLAMA,
        model=entry["id"],
        quantization=str(shown["details"].get("quantization_level") or ""),
        # What it runs with, when it runs; what it was trained with is only a bound.
        context_tokens=int(loaded.get("context_length") or 0) or min(trained, 4096),
        parameters=int(info.get("general.parameter_count") or 0),
        weights_bytes=int(loaded.get("size") or 0),
        version=str(version.get("version") or ""),
    )


def _vllm(entry: dict[str, Any]) -> ServerFacts | None:
    """vLLM: its model list tells the context; the quantization is in the name or nowhere."""
    if entry.get("owned_by") != "vllm":
        return None
    return ServerFacts(flavor=Flavor.VLLM, model=entry["id"], context_tokens=int(entry.get("max_model_len") or 0))
