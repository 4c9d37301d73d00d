"""What each kind of server tells of a model beyond OpenAI's API, and where it tells it."""

import re
from dataclasses import dataclass
from typing import Any

from protos.contract.models.model_name import quantization_in
from workers.engines.openai_compatible.features.abilities import from_llama_server, from_lm_studio, from_ollama
from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_client import ServerClient, Unreachable

DEFAULT_CONTEXT_TOKENS = 4096
"""What Ollama (docs/faq, context window) and LM Studio run a model with when nobody says otherwise."""

_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMBT])$", re.IGNORECASE)
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


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
    told: frozenset[str] = frozenset()  # what it says the model can, see ``features.abilities``


async def ask(client: ServerClient, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """An answer of the server outside ``/v1``; empty where there is no such path, or no JSON object."""
    try:
        told = await client.ask(path, method=method, body=body)
    except Unreachable:
        return {}
    said = told.json() if told.status == 200 else None
    return said if isinstance(said, dict) else {}


async def llama_server(client: ServerClient, entry: dict[str, Any]) -> ServerFacts | None:
    """llama.cpp's own server: ``/props`` and the ``meta`` of its model list."""
    props = await ask(client, "GET", "/props")
    if "default_generation_settings" not in props:
        return None
    meta = _object(entry.get("meta"))
    return ServerFacts(
        flavor=Flavor.LLAMA_SERVER,
        model=entry["id"],
        quantization=_file_type(str(props.get("model_ftype") or meta.get("ftype") or ""))
        or quantization_in(str(props.get("model_path") or "")),
        context_tokens=_number(_object(props["default_generation_settings"]).get("n_ctx")),
        slots=_number(props.get("total_slots")),
        parameters=_number(meta.get("n_params")),
        weights_bytes=_number(meta.get("size")),
        version=str(props.get("build_info") or ""),
        told=from_llama_server(props),
    )


def _file_type(text: str) -> str:
    """llama.cpp's name of a file type as ours: ``Q4_K - Medium`` is q4_k_m."""
    name, _, size = text.partition(" - ")
    return name.strip().lower() + (f"_{size.strip()[:1].lower()}" if size else "")


async def ollama(client: ServerClient, entry: dict[str, Any]) -> ServerFacts | None:
    """Ollama: ``/api/show`` has the quantization, ``/api/ps`` the context it runs with, ``/api/tags`` the file's size.

    What a model was trained with is only a bound of its context: Ollama runs it with what its Modelfile or its owner
    sets, else with a default of its own.
    """
    shown = await ask(client, "POST", "/api/show", {"model": entry["id"]})
    details = shown.get("details")
    if not isinstance(details, dict):
        return None
    running = _named(await ask(client, "GET", "/api/ps"), entry["id"])
    stored = _named(await ask(client, "GET", "/api/tags"), entry["id"])
    info = _object(shown.get("model_info"))
    trained = next((_number(value) for key, value in info.items() if key.endswith(".context_length")), 0)
    chosen = _NUM_CTX.search(str(shown.get("parameters") or ""))
    context = int(chosen[1]) if chosen else DEFAULT_CONTEXT_TOKENS
    return ServerFacts(
        flavor=Flavor.OLLAMA,
        model=entry["id"],
        quantization=str(details.get("quantization_level") or ""),
        context_tokens=_number(running.get("context_length")) or min(trained or context, context),
        parameters=_number(info.get("general.parameter_count"))
        or _parameters(str(details.get("parameter_size") or "")),
        weights_bytes=_number(stored.get("size")),
        told=from_ollama(shown.get("capabilities")),
        version=str((await ask(client, "GET", "/api/version")).get("version") or ""),
    )


def _named(listed: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of one of Ollama's lists; ``gemma3`` and ``gemma3:latest`` are the same model."""
    named = (one for one in _objects(listed.get("models")) if isinstance(one.get("name"), str))
    return next((one for one in named if one["name"].removesuffix(":latest") == name.removesuffix(":latest")), {})


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects of a list, if it is one."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


async def lm_studio(client: ServerClient, entry: dict[str, Any]) -> ServerFacts | None:
    """LM Studio: its own model list has the quantization, and the context a loaded model has."""
    listed = await ask(client, "GET", "/api/v0/models")
    found = next((one for one in _objects(listed.get("data")) if one.get("id") == entry["id"]), {})
    if "compatibility_type" not in found:
        return None
    trained = _number(found.get("max_context_length")) or DEFAULT_CONTEXT_TOKENS
    return ServerFacts(
        flavor=Flavor.LM_STUDIO,
        model=entry["id"],
        quantization=str(found.get("quantization") or ""),
        context_tokens=_number(found.get("loaded_context_length")) or min(trained, DEFAULT_CONTEXT_TOKENS),
        told=from_lm_studio(found),
    )


def batching(entry: dict[str, Any]) -> ServerFacts | None:
    """VLLM and SGLang: the model list tells the context; the quantization is in the name or nowhere."""
    flavor = {"vllm": Flavor.VLLM, "sglang": Flavor.SGLANG}.get(str(entry.get("owned_by")))
    if flavor is None:
        return None
    return ServerFacts(flavor=flavor, model=entry["id"], context_tokens=_number(entry.get("max_model_len")))


def _number(value: Any) -> int:
    """A count; zero when it is none, or none that can be."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _parameters(size: str) -> int:
    """Parameters as people write them: 8.0B, 137M."""
    found = _SIZE.match(size.strip())
    return int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
