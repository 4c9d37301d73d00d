"""Items of the Responses API into messages: neighbouring thoughts, texts and calls of an assistant are one turn."""

from collections.abc import Sequence
from dataclasses import replace

from protos.contract.content import ContentPart
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import ChatMessage, Sampling
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.openai.sampling import LEAST_TOP_P, template_arguments
from router.http.dialects.responses.schema import Item, Part, ResponsesRequest, ResponseTool, ResponseToolChoice
from router.http.dialects.shared.grammars import schema_grammar
from router.http.dialects.shared.images import ImageBudget, image_of
from router.http.dialects.shared.messages import required, spoken
from router.http.dialects.shared.sampling_defaults import unset
from router.http.dialects.shared.tooling import tool, tooling
from router.http.dialects.shared.wish import Wish

_STATELESS = "conversations go on from 'previous_response_id', or are sent whole as 'input'"
_TEXTS = ("input_text", "output_text", "reasoning_text", "summary_text", "text")


def wish_of(body: ResponsesRequest, before: Sequence[Item] = ()) -> Wish:
    """``before``: what was said in earlier calls. Raises InvalidRequest naming the parameter at fault."""
    for name in ("conversation", "prompt", "background"):
        if getattr(body, name):
            raise UnsupportedParameter(f"Unsupported parameter: '{name}': {_STATELESS}", param=name)
    effort = body.reasoning.effort if body.reasoning is not None else None
    thinking = {"enable_thinking": False} if effort == "none" else {}
    return Wish(
        model=body.model,
        messages=_messages(body, before),
        sampling=Sampling(
            max_tokens=body.max_output_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else max(body.top_p, LEAST_TOP_P),
            logprobs=body.top_logprobs is not None,
            top_logprobs=body.top_logprobs or 0,
            seed=body.seed,
        ),
        unset=unset(
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=None,
            min_p=None,
            repetition_penalty=None,
            max_tokens=body.max_output_tokens,
        ),
        tooling=_tooling(body),
        grammar=_grammar(body),
        template_arguments=template_arguments(None, reasoning_effort=effort, **thinking),
        quality=body.quality,
        priority=body.priority,
        deadline_s=body.deadline_s,
    )


def _grammar(body: ResponsesRequest) -> Grammar | None:
    wanted = body.text.format if body.text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Grammar(kind=GrammarKind.JSON_OBJECT)
    if wanted.schema is None:
        raise InvalidRequest("Missing required parameter: 'text.format.schema'", param="text.format.schema")
    return schema_grammar(wanted.schema, param="text.format.schema")


def _tooling(body: ResponsesRequest) -> Tooling | None:
    tools = [_tool(one, f"tools[{index}]") for index, one in enumerate(body.tools or [])]
    choice, name = ToolChoice.AUTO, ""
    if isinstance(body.tool_choice, str):
        choice = ToolChoice(body.tool_choice)
    elif body.tool_choice is not None:
        choice, name, tools = _chosen(body.tool_choice, tools)
    return tooling(tools, choice, name=name, single=body.parallel_tool_calls is False)


def _chosen(wanted: ResponseToolChoice, tools: list[Tool]) -> tuple[ToolChoice, str, list[Tool]]:
    if wanted.type == "function" and wanted.name:
        return ToolChoice.NAMED, wanted.name, tools
    if wanted.type == "allowed_tools":
        allowed = {one.get("name") for one in wanted.tools or ()}
        return ToolChoice(wanted.mode or "auto"), "", [one for one in tools if one.name in allowed]
    raise InvalidRequest("Invalid value for 'tool_choice': which function?", param="tool_choice")


def _tool(one: ResponseTool, where: str) -> Tool:
    if one.type != "function":
        raise UnsupportedParameter(
            f"Unsupported value for '{where}.type': functions are served, '{one.type[:50]}' is OpenAI's own",
            param=f"{where}.type",
        )
    if not one.name:
        raise InvalidRequest(f"Missing required parameter: '{where}.name'", param=f"{where}.name")
    return tool(one.name, one.description, one.parameters, strict=one.strict, param=where)


def _messages(body: ResponsesRequest, before: Sequence[Item]) -> tuple[ChatMessage, ...]:
    images = ImageBudget()
    messages = [ChatMessage(role="system", content=body.instructions)] if body.instructions else []
    said = [Item(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    for index, item in enumerate((*before, *said), -len(before)):
        where = f"input[{index}]" if index >= 0 else "previous_response_id"
        message = _message(item, where, images)
        if message.role == "assistant" and messages and messages[-1].role == "assistant":
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return tuple(messages)


def _joined(one: ChatMessage, more: ChatMessage) -> ChatMessage:
    return replace(
        one,
        content=one.content + more.content,
        reasoning=one.reasoning + more.reasoning,
        tool_calls=(*one.tool_calls, *more.tool_calls),
    )


def _message(item: Item, where: str, images: ImageBudget) -> ChatMessage:
    kind = item.type or "message"
    if kind == "message":
        return _said(item, where, images)
    if kind == "function_call":
        call = ToolCall(
            id=item.call_id or item.id or "",
            name=required(item.name, f"{where}.name"),
            arguments=item.arguments or "{}",
        )
        return ChatMessage(role="assistant", tool_calls=(call,))
    if kind == "function_call_output":
        output = _parts(item.output or "", f"{where}.output", images)
        return spoken("tool", output, tool_call_id=required(item.call_id, f"{where}.call_id"))
    if kind == "reasoning":
        thought = item.content or item.summary or ""
        return ChatMessage(
            role="assistant",
            reasoning="".join(one for one in _parts(thought, where, images) if isinstance(one, str)),
        )
    raise UnsupportedParameter(
        f"Unsupported value for '{where}.type': messages, calls, their results and thoughts are served, "
        f"not '{kind[:50]}'",
        param=f"{where}.type",
    )


def _said(item: Item, where: str, images: ImageBudget) -> ChatMessage:
    role = required(item.role, f"{where}.role")
    if item.content is None:
        raise InvalidRequest(f"Missing required parameter: '{where}.content'", param=f"{where}.content")
    return spoken("system" if role == "developer" else role, _parts(item.content, f"{where}.content", images))


def _parts(content: str | list[Part], where: str, images: ImageBudget) -> list[ContentPart]:
    if isinstance(content, str):
        return [content]
    return [_part(part, f"{where}[{index}]", images) for index, part in enumerate(content)]


def _part(part: Part, where: str, images: ImageBudget) -> ContentPart:
    if part.type in _TEXTS:
        if part.text is None:
            raise InvalidRequest(f"Missing required parameter: '{where}.text'", param=f"{where}.text")
        return part.text
    if part.type == "refusal":
        return part.refusal or ""
    if part.type == "input_image":
        url = required(part.image_url, f"{where}.image_url")
        detail = part.detail if part.detail in ("low", "high") else ""
        return image_of(url, images, detail=detail or "", param=f"{where}.image_url")
    raise UnsupportedParameter(
        f"Unsupported content type in '{where}': text and images are served, not '{part.type[:50]}'", param=where
    )
