"""Messages and tools as OpenAI's API has them."""

import json
from base64 import b64encode
from typing import Any

from protos.contract.content import Image
from protos.contract.request import ChatMessage
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling


def message_body(message: ChatMessage) -> dict[str, Any]:
    """One message; a text alone stays a text."""
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.parts:
        body["content"] = [_part(one) for one in message.parts] if message.images else message.text
    if message.name:
        body["name"] = message.name
    if message.reasoning:
        body["reasoning_content"] = message.reasoning
    if message.tool_calls:
        body["tool_calls"] = [_call(one) for one in message.tool_calls]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def tooling_body(tooling: Tooling, *, names_one: bool = True) -> dict[str, Any]:
    """The tools and how they may be used. ``names_one``: the server lets one be named; else it gets that one alone."""
    body: dict[str, Any] = {"tools": [_tool(one) for one in tooling.tools]}
    if tooling.choice is ToolChoice.NAMED and not names_one:
        body |= {"tools": [_tool(one) for one in tooling.forced], "tool_choice": "required"}
    elif tooling.choice is ToolChoice.NAMED:
        body["tool_choice"] = {"type": "function", "function": {"name": tooling.name}}
    elif tooling.choice is not ToolChoice.AUTO:
        body["tool_choice"] = tooling.choice.value
    if tooling.single:
        body["parallel_tool_calls"] = False
    return body


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:{part.media_type};base64,{b64encode(part.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": part.detail} if part.detail else {})}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = json.loads(tool.parameters)
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
