"""Tools of a chat and how they may be used, into the contract's."""

from protos.contract.tools import Tool, ToolChoice, Tooling
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.openai.schema import ChatRequest, ToolChosen, ToolOffered
from router.http.dialects.shared.tooling import tool, tooling


def tooling_of(body: ChatRequest) -> Tooling | None:
    """None without tools. Raises InvalidRequest."""
    tools = [_tool(one, f"tools[{index}]") for index, one in enumerate(body.tools or [])]
    choice, name = ToolChoice.AUTO, ""
    wanted = body.tool_choice
    if isinstance(wanted, str):
        choice = ToolChoice(wanted)
    elif wanted is not None:
        choice, name, tools = _chosen(wanted, tools)
    return tooling(tools, choice, name=name, single=body.parallel_tool_calls is False)


def _tool(one: ToolOffered, where: str) -> Tool:
    if one.type != "function":
        raise UnsupportedParameter(
            f"Unsupported value for '{where}.type': functions are served, not '{one.type[:50]}'", param=f"{where}.type"
        )
    if one.function is None:
        raise InvalidRequest(f"Missing required parameter: '{where}.function'", param=f"{where}.function")
    offered = one.function
    return tool(offered.name, offered.description, offered.parameters, strict=offered.strict, param=f"{where}.function")


def _chosen(wanted: ToolChosen, tools: list[Tool]) -> tuple[ToolChoice, str, list[Tool]]:
    if wanted.type == "function" and wanted.function is not None:
        return ToolChoice.NAMED, wanted.function.name, tools
    if wanted.type == "allowed_tools" and wanted.allowed_tools is not None:
        allowed = {one.function.name for one in wanted.allowed_tools.tools}
        left = [one for one in tools if one.name in allowed]
        return ToolChoice(wanted.allowed_tools.mode), "", left
    raise InvalidRequest("Invalid value for 'tool_choice': which function?", param="tool_choice")
