"""What a running server can do with a model: by its kind, and by what it tells of the model itself."""

from collections.abc import Mapping

from protos.contract.grammar import GrammarKind
from protos.contract.worker import Capabilities
from workers.engines.openai_compatible.requests import Flavor

_JSON = (GrammarKind.JSON_SCHEMA, GrammarKind.JSON_OBJECT)

_GRAMMARS: Mapping[Flavor, tuple[GrammarKind, ...]] = {
    Flavor.LLAMA_SERVER: (*_JSON, GrammarKind.GBNF),
    Flavor.OLLAMA: _JSON,
    Flavor.LM_STUDIO: (GrammarKind.JSON_SCHEMA,),
    Flavor.VLLM: (*_JSON, GrammarKind.REGEX, GrammarKind.CHOICE, GrammarKind.LARK),
    Flavor.SGLANG: (*_JSON, GrammarKind.REGEX),
}

_EXACT = frozenset({Flavor.LLAMA_SERVER, Flavor.VLLM, Flavor.SGLANG})
"""They continue a text, draw by seed and tell log-probabilities."""

ABLE = ("tools", "vision", "embeddings", "structured_output")
"""What an owner may say of a server that does not tell (options, true or false)."""


def abilities(flavor: Flavor, told: frozenset[str], said: Mapping[str, bool]) -> Capabilities:
    """``told``: by the server, in the words above; ``said``: by its owner, which counts."""
    exact = flavor in _EXACT
    able = {name: name in told for name in ABLE}
    able["tools"] = able["tools"] or flavor in (Flavor.VLLM, Flavor.SGLANG)
    able |= said
    structured = said.get("structured_output", flavor in _GRAMMARS)
    return Capabilities(
        can_continue=exact,
        logprobs=exact,
        seed=exact,
        can_load=True,
        chat="embeds_only" not in told,
        exact_prompt_count=False,
        tools=able["tools"],
        vision=able["vision"],
        reasoning=True,  # whatever comes under one of its names is kept apart
        can_embed=able["embeddings"],
        embeds_only="embeds_only" in told,
        grammars=_GRAMMARS.get(flavor, _JSON) if structured else (),
    )


def from_ollama(capabilities: object) -> frozenset[str]:
    """Of ``/api/show``: completion, tools, vision, embedding, thinking."""
    names = {one for one in capabilities if isinstance(one, str)} if isinstance(capabilities, list) else set()
    told = {"tools", "vision"} & names
    if "embedding" in names:
        told |= {"embeddings"} | (set() if "completion" in names else {"embeds_only"})
    return frozenset(told)


def from_llama_server(props: Mapping[str, object]) -> frozenset[str]:
    """Of ``/props``: its modalities, and what its chat template can."""
    modalities, template = props.get("modalities"), props.get("chat_template_caps")
    told = {"vision"} if isinstance(modalities, dict) and modalities.get("vision") is True else set()
    return frozenset(
        told | ({"tools"} if isinstance(template, dict) and template.get("supports_tools") is True else set())
    )


def from_lm_studio(entry: Mapping[str, object]) -> frozenset[str]:
    """Of ``/api/v0/models``: its type, and what it can."""
    kind, listed = entry.get("type"), entry.get("capabilities")
    told = {"tools"} if isinstance(listed, list) and "tool_use" in listed else set()
    told |= {"vision"} if kind == "vlm" else set()
    return frozenset(told | ({"embeddings", "embeds_only"} if kind == "embeddings" else set()))


def owner_says(options: Mapping[str, object]) -> dict[str, bool]:
    """What the options say of abilities."""
    return {name: bool(options[name]) for name in ABLE if name in options}
