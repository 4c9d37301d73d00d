"""Anthropic's messages into the router's own: system first, results of tools as messages of their own."""

import msgspec

from protos.contract.content import ContentPart
from protos.contract.grammar import Grammar
from protos.contract.request import ChatMessage, Sampling
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.anthropic.schema import Block, CountRequest, Message, MessagesRequest, ToolOffered
from router.http.dialects.openai.sampling import LEAST_TOP_P, template_arguments
from router.http.dialects.shared.grammars import schema_grammar
from router.http.dialects.shared.images import ImageBudget, image_from_base64, image_of
from router.http.dialects.shared.messages import required, spoken
from router.http.dialects.shared.sampling_defaults import unset
from router.http.dialects.shared.tooling import tool, tooling
from router.http.dialects.shared.wish import Wish


def wish_of(body: CountRequest) -> Wish:
    """Raises InvalidRequest naming the parameter at fault."""
    generating = body if isinstance(body, MessagesRequest) else None
    if body.messages[-1].role == "assistant" and generating is not None:
        raise UnsupportedParameter(
            "Unsupported value for 'messages': the last one is the assistant's; answers are not begun by the client",
            param=f"messages[{len(body.messages) - 1}].role",
        )
    return Wish(
        model=body.model,
        messages=_messages(body),
        sampling=Sampling(max_tokens=1) if generating is None else _sampling(generating),
        unset=frozenset() if generating is None else _unset(generating),
        tooling=_tooling(body),
        grammar=_grammar(body),
        template_arguments=_template_arguments(body),
        quality=None if generating is None else generating.quality,
        priority=None if generating is None else generating.priority,
        deadline_s=None if generating is None else generating.deadline_s,
    )


def _sampling(body: MessagesRequest) -> Sampling:
    return Sampling(
        max_tokens=body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, LEAST_TOP_P),
        top_k=body.top_k or 0,
        stop=tuple(one for one in body.stop_sequences or () if one),
        seed=body.seed,
    )


def _unset(body: MessagesRequest) -> frozenset[str]:
    return unset(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k, min_p=None, repetition_penalty=None)


def _template_arguments(body: CountRequest) -> str:
    thinking = None if body.thinking is None else body.thinking.type != "disabled"
    effort = body.output_config.effort if body.output_config is not None else None
    return template_arguments(None, enable_thinking=thinking, reasoning_effort=effort)


def _grammar(body: CountRequest) -> Grammar | None:
    wanted, where = body.output_format, "output_format"
    if body.output_config is not None and body.output_config.format is not None:
        wanted, where = body.output_config.format, "output_config.format"
    return None if wanted is None else schema_grammar(wanted.schema, param=f"{where}.schema")


def _tooling(body: CountRequest) -> Tooling | None:
    tools = [_tool(one, f"tools[{index}]") for index, one in enumerate(body.tools or [])]
    wanted = body.tool_choice
    if wanted is None:
        return tooling(tools, ToolChoice.AUTO)
    kinds = {"auto": ToolChoice.AUTO, "any": ToolChoice.REQUIRED, "tool": ToolChoice.NAMED, "none": ToolChoice.NONE}
    return tooling(tools, kinds[wanted.type], name=wanted.name or "", single=bool(wanted.disable_parallel_tool_use))


def _tool(one: ToolOffered, where: str) -> Tool:
    if one.type not in (None, "custom"):
        raise UnsupportedParameter(
            f"Unsupported value for '{where}.type': tools are run by the client, '{one.type[:50]}' is Anthropic's own",
            param=f"{where}.type",
        )
    return tool(one.name, one.description, one.input_schema, strict=one.strict, param=where)


def _messages(body: CountRequest) -> tuple[ChatMessage, ...]:
    images = ImageBudget()
    messages: list[ChatMessage] = []
    if body.system:
        messages.append(ChatMessage(role="system", content=_text(body.system, "system")))
    for index, message in enumerate(body.messages):
        where = f"messages[{index}]"
        if isinstance(message.content, str):
            messages.append(ChatMessage(role=message.role, content=message.content))
        elif message.role == "assistant":
            messages.append(_assistant(message.content, where))
        else:
            messages.extend(_turn(message, message.content, where, images))
    return tuple(messages)


def _assistant(blocks: list[Block], where: str) -> ChatMessage:
    texts, thoughts, calls = [], [], []
    for index, block in enumerate(blocks):
        name = f"{where}.content[{index}]"
        if block.type == "tool_use":
            arguments = msgspec.json.encode(block.input or {}).decode()
            calls.append(ToolCall(id=block.id or "", name=required(block.name, f"{name}.name"), arguments=arguments))
        elif block.type == "thinking":
            thoughts.append(block.thinking or "")
        elif block.type != "redacted_thinking":
            texts.append(_words(block, name))
    return ChatMessage(role="assistant", content="".join(texts), reasoning="".join(thoughts), tool_calls=tuple(calls))


def _turn(message: Message, blocks: list[Block], where: str, images: ImageBudget) -> list[ChatMessage]:
    """Results first, as they answer the turn before; then what the user says besides."""
    results: list[ChatMessage] = []
    parts: list[ContentPart] = []
    for index, block in enumerate(blocks):
        name = f"{where}.content[{index}]"
        if block.type == "tool_result":
            results.append(_result(block, name, images))
        elif block.type == "image":
            parts.append(_image(block, name, images))
        else:
            parts.append(_words(block, name))
    if parts or not results:
        results.append(spoken(message.role, parts))
    return results


def _result(block: Block, where: str, images: ImageBudget) -> ChatMessage:
    call_id = required(block.tool_use_id, f"{where}.tool_use_id")
    parts: list[ContentPart] = []
    if isinstance(block.content, str):
        parts.append(block.content)
    for index, one in enumerate(block.content or [] if not isinstance(block.content, str) else []):
        name = f"{where}.content[{index}]"
        parts.append(_image(one, name, images) if one.type == "image" else _words(one, name))
    if block.is_error:
        parts.insert(0, "Error: ")
    return spoken("tool", parts, tool_call_id=call_id)


def _image(block: Block, where: str, images: ImageBudget) -> ContentPart:
    source = block.source
    if source is not None and source.type == "url" and source.url:
        return image_of(source.url, images, param=f"{where}.source.url")
    if source is None or source.type != "base64" or source.data is None:
        raise UnsupportedParameter(f"'{where}.source': an image comes in base64, or has a url", param=f"{where}.source")
    return image_from_base64(source.data, source.media_type or "image/png", images, param=f"{where}.source.data")


def _text(content: str | list[Block], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_words(block, f"{where}[{index}]") for index, block in enumerate(content))


def _words(block: Block, where: str) -> str:
    if block.type == "text":
        if block.text is None:
            raise InvalidRequest(f"Missing required parameter: '{where}.text'", param=f"{where}.text")
        return block.text
    if block.type == "document" and block.source is not None and block.source.type == "text":
        return "\n".join(one for one in (block.title, block.context, block.source.data) if one)
    raise UnsupportedParameter(
        f"Unsupported content type in '{where}': text, images, calls and their results are served, "
        f"not '{block.type[:50]}'",
        param=where,
    )
