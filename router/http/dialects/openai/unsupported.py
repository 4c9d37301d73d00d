"""Parameters that would change the answer and are not served: harmless values pass, others are a 400 that says why."""

from collections.abc import Collection, Mapping
from typing import Any

from router.errors import UnsupportedParameter
from router.http.dialects.openai.schema import ChatRequest, CompletionRequest, Message

_Table = Mapping[str, tuple[Collection[Any], str]]

_CHAT: _Table = {
    "functions": (([],), "'tools' took their place"),
    "function_call": (("none", "auto"), "'tool_choice' took its place"),
    "modalities": ((["text"],), "only text is served"),
    "audio": ((), "only text is served"),
    "web_search_options": ((), "nothing is searched here"),
}
_COMPLETION: _Table = {"suffix": (("",), "filling in the middle is not served")}
_MESSAGE: _Table = {"function_call": ((), "'tool_calls' took its place"), "audio": ((), "only text is served")}

UNDOABLE: Mapping[str, str] = {
    "use_beam_search": "beams are not searched here",
    "prompt_logprobs": "ask /v1/completions with echo and logprobs",
    "logits_processors": "processors are not taken from requests",
    "chat_template": "templates are not taken from requests; the model's own counts",
    "continue_final_message": "only whole messages are answered",
    "documents": "documents go into messages",
    "mirostat": "this sampler is not served",
    "xtc_probability": "this sampler is not served",
    "dry_multiplier": "this sampler is not served",
    "typical_p": "this sampler is not served",
    "tfs_z": "this sampler is not served",
    "input_prefix": "filling in the middle is not served",
    "input_suffix": "filling in the middle is not served",
    "lora": "adapters have model names of their own",
    "lora_request": "adapters have model names of their own",
}
"""Fields of other servers that no type here knows, and that would change the answer: never ignored in silence."""


def refuse_unsupported(body: ChatRequest | CompletionRequest) -> None:
    """Raises UnsupportedParameter naming the first parameter that is not served."""
    _check(body, _CHAT if isinstance(body, ChatRequest) else _COMPLETION, "")


def refuse_unsupported_in_message(message: Message, where: str) -> None:
    """The same for one message; ``where`` is its path, such as ``messages[2]``."""
    _check(message, _MESSAGE, where + ".")


def _check(holder: Any, table: _Table, prefix: str) -> None:
    for name, (harmless, reason) in table.items():
        value = getattr(holder, name)
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            continue
        raise UnsupportedParameter(f"Unsupported parameter: '{prefix}{name}': {reason}", param=prefix + name)
