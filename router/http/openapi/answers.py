"""JSON schemas of what operators are answered, for the OpenAPI document. Answers may grow fields; requests may not."""

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
SCHEMAS: dict[str, Any] = {
    "Error": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _TEXT})},
        {"replica": _TEXT, "replicas": _COUNT},  # who had no decision record, of how many
    ),
    "ModelFiles": _object(
        {
            "models": _list(
                _object(
                    {
                        "model": _TEXT,
                        "quantization": _TEXT,
                        "format": _TEXT,
                        "content": _TEXT,
                        "size_bytes": _COUNT,
                        "files": _COUNT,
                        "held_by": _list(_TEXT),
                        "loaded_by": _list(_TEXT),
                    }
                )
            ),
            "fetches": _list(
                _object(
                    {
                        "node": _TEXT,
                        "model": _TEXT,
                        "quantization": _TEXT,
                        "content": _TEXT,
                        "done_bytes": _COUNT,
                        "total_bytes": _COUNT,
                        "source": _TEXT,
                        "error": _TEXT,
                    }
                )
            ),
        }
    ),
    "ModelTold": _object({"node": _TEXT, "model": _TEXT, "quantization": _TEXT, "content": _TEXT}),
    "Status": _object({"status": _TEXT}, {"reason": _TEXT}),
    "Version": _object({"version": _TEXT}),
    "Fleet": _object(
        {
            "version": _COUNT,
            "allsorts": _TEXT,
            "workers": _list(
                _object(
                    {
                        "node": _TEXT,
                        "worker_id": _TEXT,
                        "state": _TEXT,
                        "away_reason": _TEXT,
                        "cordoned": _FLAG,
                        "engine": _TEXT,
                        "version": _TEXT,
                        "hardware": {"type": "object"},
                        "labels": _MAP,
                        "takes_models": _FLAG,
                        "memory_limit_bytes": _COUNT,
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
                        "role": _TEXT,
                        "drafts": _list({"type": "object"}),
                        "drafts_for": _list(_TEXT),
                        "draft_reason": _TEXT,
                        "running": _COUNT,
                        "waiting": _COUNT,
                        "inflight": _COUNT,
                        "kv_used": _NUMBER,
                        "tokens_per_s": _NUMBER,
                        "draft_rounds": _COUNT,
                        "draft_proposed": _COUNT,
                        "draft_accepted": _COUNT,
                    }
                )
            ),
        }
    ),
    "Done": _object({"node": _TEXT}),
    "Desired": _object({"version": _COUNT, "state": _ref("DesiredState")}),
    "Applied": _object({"version": _COUNT}),
    "Difference": _object(
        {
            "version": _COUNT,
            "changes": _list(_object({"doing": _TEXT, "model": _TEXT, "quantization": _TEXT, "node": _TEXT})),
            "blocked": _MAP,
        }
    ),
    "FleetStatus": _object(
        {"version": _COUNT, "settled": _FLAG, "models": _list({"type": "object"}), "steps": _list({"type": "object"})}
    ),
    "Token": {"type": "object"},
    "Key": {"type": "object"},
    "NewKey": {"type": "object"},
    "KeyList": _object({"keys": _list(_ref("Key"))}),
    "Deleted": _object({"key_id": _TEXT, "deleted": _FLAG}),
    "Record": {"type": "object"},
}
