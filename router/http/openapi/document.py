"""The OpenAPI 3.1 document of everything the router serves, built from the very types that decode the requests and
encode the answers: it cannot say otherwise than they do.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from router.http.admin.schemas import (
    DesiredRequest,
    DrainRequest,
    NodeRequest,
    PullRequest,
    RemoveRequest,
    RevokeRequest,
    TokenRequest,
)
from router.http.dialects.anthropic.answers import AnthropicError
from router.http.dialects.ollama.answers import OllamaError
from router.http.dialects.ollama.models import OllamaVersion, RunningList, Shown, Tags
from router.http.dialects.ollama.schema import ShowRequest
from router.http.dialects.responses.kept import InputItems, ResponseDeleted
from router.http.openapi import answers
from router.http.openapi.operations import INFERENCES, Inferred
from router.http.public.models import ModelBody, ModelList
from router.state.api_keys import KeyRules

_OF_FILES = ("404", "503")
_OPERATORS = (
    DesiredRequest,
    DrainRequest,
    NodeRequest,
    PullRequest,
    RemoveRequest,
    RevokeRequest,
    TokenRequest,
    KeyRules,
)
_MODELS = (ModelBody, ModelList, Tags, RunningList, Shown, ShowRequest, OllamaVersion, InputItems, ResponseDeleted)

_EVERYWHERE = ("401", "403", "429", "503")
"""Statuses that authentication gives on every guarded path."""

_BODY = ("400", "408", "413", "415")
"""Statuses of reading and understanding a body."""

_HEADERS = (
    "x-request-id",
    "x-allsorts-worker",
    "x-allsorts-quantization",
    "x-allsorts-continued",
    "x-allsorts-ignored",
)


def document(version: str) -> dict[str, Any]:
    """The document, JSON-ready."""
    types: list[type[msgspec.Struct]] = [*_OPERATORS, *_MODELS, AnthropicError, OllamaError]
    for one in INFERENCES:
        types += [one.request, one.answer, *one.events]
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(types)), ref_template="#/components/schemas/{name}")
    double = answers.SCHEMAS.keys() & schemas.keys()
    if double:
        raise ValueError(f"two types of the document have one name: {', '.join(sorted(double))}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Allsorts",
            "version": version,
            "description": "One endpoint over machines of all sorts, in the dialects that clients speak.",
        },
        "paths": _paths(),
        "security": [{"key": []}, {"anthropic": []}, {}],  # none on loopback, while no keys exist
        "components": {
            "schemas": {**answers.SCHEMAS, **schemas},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "anthropic": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "responses": {"Error": {"description": "What went wrong.", "content": _json(_ref("Error"))}},
        },
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {one.path: {"post": _inference(one)} for one in INFERENCES}
    return {
        **paths,
        "/v1/models": {"get": _operation("listModels", "The models there are.", "ModelList", tag="Models")},
        "/v1/models/{model}": {
            "get": _operation("getModel", "One model.", "ModelBody", names=("model",), also=("404",), tag="Models")
        },
        **_response_paths(),
        **_ollama_paths(),
        **_open_paths(),
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
        "/admin/desired": {
            "get": _operation("desired", "What is wanted of the fleet.", "Desired"),
            "post": _change("apply", "Want this from now on.", "DesiredRequest", "Applied", also=("409",)),
        },
        "/admin/desired/plan": {
            "post": _change("compare", "What would change.", "DesiredRequest", "Difference", also=())
        },
        "/admin/models": {"get": _operation("modelFiles", "Which models' files lie where.", "ModelFiles")},
        "/admin/models/pull": {
            "post": _change("pullModel", "Have a machine fetch a model.", "PullRequest", "ModelTold", also=_OF_FILES)
        },
        "/admin/models/remove": {
            "post": _change("removeModel", "Have its files deleted.", "RemoveRequest", "ModelTold", also=_OF_FILES)
        },
        "/admin/status": {"get": _operation("status", "How far the fleet is.", "FleetStatus")},
        "/admin/keys/{key_id}": {
            "delete": _operation("deleteKey", "Forget a key.", "Deleted", names=("key_id",), also=("404",))
        },
        "/admin/explain/{request_id}": {
            "get": _operation("explain", "Why a request went there.", "Record", names=("request_id",), also=("404",))
        },
    }


def _response_paths() -> dict[str, Any]:
    def operation(name: str, summary: str, answer: str) -> dict[str, Any]:
        return _operation(name, summary, answer, names=("response_id",), also=("404",), tag="OpenAI")

    return {
        "/v1/responses/{response_id}": {
            "get": operation("getResponse", "An answer of yours that is kept.", "Response"),
            "delete": operation("deleteResponse", "Forget it.", "ResponseDeleted"),
        },
        "/v1/responses/{response_id}/input_items": {
            "get": operation("listInputItems", "What it answered.", "InputItems"),
        },
    }


def _ollama_paths() -> dict[str, Any]:
    paths = {
        "/api/tags": {"get": _operation("ollamaTags", "The models there are.", "Tags", tag="Ollama")},
        "/api/ps": {"get": _operation("ollamaRunning", "Those that are loaded.", "RunningList", tag="Ollama")},
        "/api/show": {
            "post": _operation(
                "ollamaShow", "One model.", "Shown", body="ShowRequest", also=("404", *_BODY), tag="Ollama"
            )
        },
        "/api/version": {"get": _open("ollamaVersion", "The router's version.", _json(_ref("OllamaVersion")))},
    }
    for operation in (one for methods in paths.values() for one in methods.values()):
        _with_errors(operation, "OllamaError")
    return paths


def _with_errors(operation: dict[str, Any], schema: str) -> None:
    """Its errors, where they are not OpenAI's."""
    for status in operation["responses"]:
        if status != "200":
            operation["responses"][status] = {"description": "What went wrong.", "content": _json(_ref(schema))}


def _open_paths() -> dict[str, Any]:
    text: dict[str, Any] = {"schema": {"type": "string"}}
    return {
        "/": {"get": _open("greet", "That somebody is here.", {"text/plain": text})},
        "/healthz": {"get": _open("health", "The process lives.", _json(_ref("Status")))},
        "/ping": {"get": _open("ping", "The process lives.", _json(_ref("Status")))},
        "/readyz": {"get": _ready("ready")},
        "/health": {"get": _ready("healthy")},
        "/version": {"get": _open("version", "The router's version.", _json(_ref("Version")))},
        "/openapi.json": {"get": _open("openapi", "This document.", _json({"type": "object"}))},
        "/docs": {"get": _open("docs", "This document, to read.", {"text/html": text})},
    }


def _inference(one: Inferred) -> dict[str, Any]:
    operation = _operation(
        one.name,
        one.summary,
        one.answer.__name__,
        body=one.request.__name__,
        also=("404", "502", "504", *_BODY),
        tag=one.tag,
    )
    answered = operation["responses"]["200"]
    if one.stream:
        events = " or ".join(event.__name__ for event in one.events)
        answered["content"][one.stream] = {"schema": {"type": "string", "description": f"A stream of {events}."}}
    answered["headers"] = {header: {"schema": {"type": "string"}} for header in _HEADERS}
    operation["parameters"] = [
        {
            "name": "x-allsorts-quality",
            "in": "header",
            "description": "Least quantization that may answer; as the field `quality`.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}$"},
        }
    ]
    if one.error:
        _with_errors(operation, one.error)
    return operation


def _change(
    name: str, summary: str, request: str, answer: str = "Done", also: Sequence[str] = ("404",)
) -> dict[str, Any]:
    return _operation(name, summary, answer, body=request, also=(*also, *_BODY))


def _operation(
    name: str,
    summary: str,
    answer: str,
    *,
    body: str = "",
    names: Sequence[str] = (),
    also: Sequence[str] = (),
    tag: str = "Operators",
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _answer("Done.", answer)}
    for status in sorted((*_EVERYWHERE, *also)):
        responses[status] = {"$ref": "#/components/responses/Error"}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "tags": [tag], "responses": responses}
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
        "tags": ["Open to all"],
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
