"""Parameters of OpenAI's API that are not served yet: harmless values pass, the rest is a 400 with the reason."""

from collections.abc import Collection
from typing import Any

from router.errors import UnsupportedParameter
from router.http.dialects.schemas import ChatRequest, CompletionRequest, GenerationFields, Message

_BOTH: dict[str, tuple[Collection[Any], str]] = {
    "n": ((1,), "only one choice per request is served so far; send the request n times"),
    "logit_bias": (({},), "biasing single tokens is not served yet"),
    "grammar": ((), "grammars are not served yet"),
}

_CHAT: dict[str, tuple[Collection[Any], str]] = {
    "response_format": (({"type": "text"},), "structured output is not served yet; ask for JSON in the prompt"),
    "tools": (([],), "tools are not served yet"),
    "tool_choice": (("none", "auto"), "tools are not served yet"),
    "functions": (([],), "tools are not served yet"),
    "function_call": (("none", "auto"), "tools are not served yet"),
    "modalities": ((["text"],), "only text is served"),
    "audio": ((), "only text is served"),
    "prediction": ((), "predicted outputs are not served"),
    "reasoning_effort": ((), "the models served here have no such setting"),
    "verbosity": ((), "the models served here have no such setting"),
    "web_search_options": ((), "nothing is searched here"),
    "store": ((False,), "answers are not stored here"),
}

_COMPLETION: dict[str, tuple[Collection[Any], str]] = {
    "best_of": ((1,), "only one choice per request is served so far"),
    "echo": ((False,), "the prompt is not echoed"),
    "suffix": (("",), "filling in the middle is not served yet"),
}

_MESSAGE: dict[str, tuple[Collection[Any], str]] = {
    "refusal": ((), "refusals cannot be sent back"),
    "tool_calls": (([],), "tools are not served yet"),
    "tool_call_id": ((), "tools are not served yet"),
    "function_call": ((), "tools are not served yet"),
    "audio": ((), "only text is served"),
    "annotations": (([],), "annotations are not served"),
}


def refuse_unsupported(call: GenerationFields) -> None:
    """Raises UnsupportedParameter naming the first parameter that is not served."""
    _check(call, _BOTH, "")
    if isinstance(call, ChatRequest):
        _check(call, _CHAT, "")
    elif isinstance(call, CompletionRequest):
        _check(call, _COMPLETION, "")


def refuse_unsupported_in_message(message: Message, where: str) -> None:
    """The same for one message; ``where`` is its path, such as ``messages[2]``."""
    if message.role in ("tool", "function"):
        raise UnsupportedParameter(
            f"Unsupported value for '{where}.role': tools are not served yet", param=f"{where}.role"
        )
    _check(message, _MESSAGE, where + ".")


def _check(holder: Any, table: dict[str, tuple[Collection[Any], str]], prefix: str) -> None:
    for name, (harmless, reason) in table.items():
        value = getattr(holder, name)
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            continue
        raise UnsupportedParameter(f"Unsupported parameter: '{prefix}{name}': {reason}", param=prefix + name)
