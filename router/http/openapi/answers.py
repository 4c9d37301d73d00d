"""JSON schemas of what the router answers, for the OpenAPI document. Answers may grow fields; requests may not."""

from typing import Any


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_NUMBER: dict[str, Any] = {"type": "number"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_MAP: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_MAYBE_OBJECT: dict[str, Any] = {"type": ["object", "null"]}
_FINISH: dict[str, Any] = {"enum": ["stop", "length"]}

_CHAT_TOKEN = {"token": _TEXT, "logprob": _NUMBER, "bytes": _list(_COUNT)}

SCHEMAS: dict[str, Any] = {
    "Error": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _TEXT})},
        {"replica": _TEXT, "replicas": _COUNT},  # who had no decision record, of how many
    ),
    "Status": _object({"status": _TEXT}, {"reason": _TEXT}),
    "Version": _object({"version": _TEXT}),
    "Usage": _object(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "prompt_tokens_details": _object({"cached_tokens": _COUNT}),
        }
    ),
    "Disclosure": _object(
        {
            "worker": _TEXT,
            "quantization": _TEXT,
            "continuations": _list(
                _object(
                    {
                        "from_worker": _TEXT,
                        "to_worker": _TEXT,
                        "from_quantization": _TEXT,
                        "to_quantization": _TEXT,
                        "at_token": _COUNT,
                        "reason": _TEXT,
                    }
                )
            ),
        }
    ),
    "ChatLogprobs": _object({"content": _list(_object({**_CHAT_TOKEN, "top_logprobs": _list(_object(_CHAT_TOKEN))}))}),
    "CompletionLogprobs": _object(
        {
            "tokens": _list(_TEXT),
            "token_logprobs": _list(_NUMBER),
            "top_logprobs": _list({"type": "object", "additionalProperties": _NUMBER}),
            "text_offset": _list(_COUNT),
        }
    ),
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": _COUNT,
            "model": _TEXT,
            "choices": _list(
                _object(
                    {
                        "index": _COUNT,
                        "message": _object(
                            {"role": {"const": "assistant"}, "content": _TEXT}, {"reasoning_content": _TEXT}
                        ),
                        "logprobs": {"anyOf": [{"type": "null"}, _ref("ChatLogprobs")]},
                        "finish_reason": _FINISH,
                    }
                )
            ),
            "usage": _ref("Usage"),
            "allsorts": _ref("Disclosure"),
        }
    ),
    "Completion": _object(
        {
            "id": _TEXT,
            "object": {"const": "text_completion"},
            "created": _COUNT,
            "model": _TEXT,
            "choices": _list(
                _object(
                    {
                        "index": _COUNT,
                        "text": _TEXT,
                        "logprobs": {"anyOf": [{"type": "null"}, _ref("CompletionLogprobs")]},
                        "finish_reason": _FINISH,
                    }
                )
            ),
            "usage": _ref("Usage"),
            "allsorts": _ref("Disclosure"),
        }
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": _COUNT,
            "owned_by": _TEXT,
            "allsorts": _object({"quantizations": _list(_TEXT)}),
        }
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Fleet": _object(
        {
            "version": _COUNT,
            "workers": _list(
                _object(
                    {
                        "node": _TEXT,
                        "worker_id": _TEXT,
                        "state": _TEXT,
                        "cordoned": _FLAG,
                        "engine": _TEXT,
                        "hardware": {"type": "object"},
                        "labels": _MAP,
                        "models": _list(
                            _object(
                                {
                                    "model": _TEXT,
                                    "quantization": _TEXT,
                                    "state": _TEXT,
                                    "error": _TEXT,
                                    "suspended_s": _NUMBER,
                                    "suspended_reason": _TEXT,
                                    "slots": _COUNT,
                                    "context": _COUNT,
                                    "speed": _MAYBE_OBJECT,
                                }
                            )
                        ),
                        "running": _COUNT,
                        "waiting": _COUNT,
                        "inflight": _COUNT,
                        "kv_used": _NUMBER,
                        "tokens_per_s": _NUMBER,
                    }
                )
            ),
        }
    ),
    "Done": _object({"node": _TEXT}),
    "Token": {"type": "object"},
    "Key": {"type": "object"},
    "NewKey": {"type": "object"},
    "KeyList": _object({"keys": _list(_ref("Key"))}),
    "Deleted": _object({"key_id": _TEXT, "deleted": _FLAG}),
    "Record": {"type": "object"},
}
