"""The OpenAPI 3.1 document of everything the router serves, built from the very types that decode the requests."""

from collections.abc import Sequence
from typing import Any

import msgspec

from router.http.dialects.schemas import (
    ChatRequest,
    CompletionRequest,
    DrainRequest,
    NodeRequest,
    RevokeRequest,
    TokenRequest,
)
from router.http.openapi import answers
from router.state.api_keys import KeyRules

_REQUESTS = (ChatRequest, CompletionRequest, DrainRequest, NodeRequest, RevokeRequest, TokenRequest, KeyRules)

_EVERYWHERE = ("401", "403", "429", "503")
"""Statuses that authentication gives on every guarded path."""

_BODY = ("400", "408", "413", "415")
"""Statuses of reading and understanding a body."""


def document() -> dict[str, Any]:
    """The document, JSON-ready."""
    _, schemas = msgspec.json.schema_components(_REQUESTS, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Allsorts",
            "version": "1",
            "description": "One OpenAI-compatible endpoint over machines of all sorts.",
        },
        "paths": _paths(),
        "security": [{"key": []}, {}],  # none on loopback, while no keys exist
        "components": {
            "schemas": {**schemas, **answers.SCHEMAS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": {"description": "What went wrong.", "content": _json(_ref("Error"))}},
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/v1/chat/completions": {"post": _inference("ChatRequest", "ChatCompletion", "chat")},
        "/v1/completions": {"post": _inference("CompletionRequest", "Completion", "completion")},
        "/v1/models": {"get": _operation("listModels", "The models there are.", "ModelList")},
        "/v1/models/{model}": {"get": _operation("getModel", "One model.", "Model", names=("model",), also=("404",))},
        "/healthz": {"get": _open("health", "The process lives.", _json(_ref("Status")))},
        "/ping": {"get": _open("ping", "The process lives.", _json(_ref("Status")))},
        "/readyz": {"get": _ready("ready")},
        "/health": {"get": _ready("healthy")},
        "/version": {"get": _open("version", "The router's version.", _json(_ref("Version")))},
        "/openapi.json": {"get": _open("openapi", "This document.", _json({"type": "object"}))},
        "/metrics": {"get": _metrics()},
        "/admin/fleet": {"get": _operation("fleet", "Every worker and what it does.", "Fleet")},
        "/admin/drain": {"post": _change("drain", "Take nothing new, finish what runs.", "DrainRequest")},
        "/admin/undrain": {"post": _change("undrain", "Take work again.", "NodeRequest")},
        "/admin/cordon": {"post": _change("cordon", "Place nothing new there.", "NodeRequest")},
        "/admin/revoke": {"post": _change("revoke", "Cut off for good.", "RevokeRequest")},
        "/admin/tokens": {"post": _change("createToken", "A join token.", "TokenRequest", "Token", also=())},
        "/admin/keys": {
            "get": _operation("listKeys", "Keys, without their secrets.", "KeyList"),
            "post": _change("createKey", "A key; its secret is shown once.", "KeyRules", "NewKey", also=()),
        },
        "/admin/keys/{key_id}": {
            "delete": _operation("deleteKey", "Forget a key.", "Deleted", names=("key_id",), also=("404",))
        },
        "/admin/explain/{request_id}": {
            "get": _operation("explain", "Why a request went there.", "Record", names=("request_id",), also=("404",))
        },
    }


def _inference(request: str, answer: str, name: str) -> dict[str, Any]:
    operation = _operation(name, "Answer a prompt.", answer, body=request, also=("404", "502", "504", *_BODY))
    answered = operation["responses"]["200"]
    answered["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": "Chunks as OpenAI streams them; ends with [DONE] or an error."}
    }
    answered["headers"] = {
        header: {"schema": {"type": "string"}}
        for header in ("x-request-id", "x-allsorts-worker", "x-allsorts-quantization", "x-allsorts-continued")
    }
    operation["parameters"] = [
        {
            "name": "x-allsorts-quality",
            "in": "header",
            "description": "Least quantization that may answer; as the field `quality`.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}$"},
        }
    ]
    return operation


def _change(
    name: str, summary: str, request: str, answer: str = "Done", also: Sequence[str] = ("404",)
) -> dict[str, Any]:
    return _operation(name, summary, answer, body=request, also=(*also, *_BODY))


def _operation(
    name: str, summary: str, answer: str, *, body: str = "", names: Sequence[str] = (), also: Sequence[str] = ()
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _answer("Done.", answer)}
    for status in sorted((*_EVERYWHERE, *also)):
        responses[status] = {"$ref": "#/components/responses/Error"}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if body:
        operation["requestBody"] = {"required": True, "content": _json(_ref(body))}
    if names:
        operation["parameters"] = [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for one in names
        ]
    return operation


def _open(name: str, summary: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "Done.", "content": content}},
    }


def _ready(name: str) -> dict[str, Any]:
    return _open(name, "Requests can be served.", _json(_ref("Status"))) | {
        "responses": {"200": _answer("Ready.", "Status"), "503": _answer("Not ready, and why.", "Status")}
    }


def _metrics() -> dict[str, Any]:
    operation = _operation("metrics", "Prometheus metrics.", "Status")
    operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return operation


def _answer(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": _json(_ref(name))}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
