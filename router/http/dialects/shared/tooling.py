"""The tools of a request, whatever dialect they come in: names that are told apart, schemas that are objects."""

from collections.abc import Iterable
from typing import Any

import msgspec

from protos.contract.grammar import MAX_GRAMMAR_BYTES
from protos.contract.tools import Tool, ToolChoice, Tooling
from router.errors import InvalidRequest


def tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, *, strict: bool | None, param: str
) -> Tool:
    """Raises InvalidRequest for parameters that are no schema of an object."""
    text = ""
    if parameters:
        if parameters.get("type", "object") != "object":
            raise InvalidRequest(f"'{param}.parameters' is no schema of an object", param=f"{param}.parameters")
        text = msgspec.json.encode(parameters).decode()
        if len(text) > MAX_GRAMMAR_BYTES:
            raise InvalidRequest(f"'{param}.parameters' is larger than {MAX_GRAMMAR_BYTES} bytes", param=param)
    return Tool(name=name, description=description or "", parameters=text, strict=bool(strict))


def tooling(
    tools: Iterable[Tool], choice: ToolChoice, *, name: str = "", single: bool = False, param: str = "tool_choice"
) -> Tooling | None:
    """None without tools. Raises InvalidRequest for a choice that is not among them."""
    offered = tuple(tools)
    names = [one.name for one in offered]
    double = next((one for one in names if names.count(one) > 1), None)
    if double is not None:
        raise InvalidRequest(f"two tools are called '{double[:100]}'", param="tools")
    if choice is ToolChoice.NAMED and name not in names:
        raise InvalidRequest(f"'{param}' names '{name[:100]}', which is none of the tools", param=param)
    if not offered:
        if choice in (ToolChoice.REQUIRED, ToolChoice.NAMED):
            raise InvalidRequest(f"'{param}' wants a call, and there are no tools", param=param)
        return None
    return Tooling(tools=offered, choice=choice, name=name, single=single)
