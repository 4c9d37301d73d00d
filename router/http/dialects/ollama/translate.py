"""Ollama's requests into a wish."""

import msgspec

from protos.contract.content import ContentPart
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import ChatMessage, Sampling
from protos.contract.tools import ToolCall, ToolChoice, Tooling
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.ollama.schema import (
    GenerateRequest,
    Message,
    OllamaChatRequest,
    OllamaFields,
    Options,
    ToolCalled,
)
from router.http.dialects.openai.sampling import LEAST_TOP_P, stops_of, template_arguments
from router.http.dialects.shared.grammars import schema_grammar
from router.http.dialects.shared.images import ImageBudget, image_from_base64
from router.http.dialects.shared.requests import SEED_BITS
from router.http.dialects.shared.sampling_defaults import unset
from router.http.dialects.shared.tooling import tool, tooling
from router.http.dialects.shared.wish import Wish


def chat_wish(body: OllamaChatRequest) -> Wish:
    """Raises InvalidRequest naming the parameter at fault."""
    images = ImageBudget()
    messages = tuple(_message(one, f"messages[{index}]", images) for index, one in enumerate(body.messages))
    return _wish(body, messages, _tooling(body))


def generate_wish(body: GenerateRequest) -> Wish:
    """A chat of one message, unless it is raw. Raises InvalidRequest."""
    for name, value in (("suffix", body.suffix), ("template", body.template)):
        if value:
            raise UnsupportedParameter(f"Unsupported parameter: '{name}': the model's own template counts", param=name)
    prompt = body.prompt or ""
    if body.raw:
        return _raw(body, prompt)
    images = ImageBudget()
    parts = _pictures(prompt, body.images, "images", images)
    said = ChatMessage(role="user", content="" if parts else prompt, parts=parts)
    system = (ChatMessage(role="system", content=body.system),) if body.system else ()
    return _wish(body, (*system, said), None)


def _raw(body: GenerateRequest, prompt: str) -> Wish:
    if body.images:
        raise InvalidRequest("'images' need the model's template; leave 'raw' out", param="images")
    return Wish(
        model=body.model,
        prompts=(prompt,),
        sampling=_sampling(body),
        unset=_unset(body),
        grammar=_grammar(body),
        quality=body.quality,
        priority=body.priority,
        deadline_s=body.deadline_s,
    )


def _wish(body: OllamaFields, messages: tuple[ChatMessage, ...], tools: Tooling | None) -> Wish:
    return Wish(
        model=body.model,
        messages=messages,
        sampling=_sampling(body),
        unset=_unset(body),
        tooling=tools,
        grammar=_grammar(body),
        template_arguments=_template_arguments(body),
        quality=body.quality,
        priority=body.priority,
        deadline_s=body.deadline_s,
    )


def _sampling(body: OllamaFields) -> Sampling:
    given = body.options or Options()
    if given.mirostat:
        raise UnsupportedParameter("Unsupported parameter: 'options.mirostat': this sampler is not served")
    limit = given.num_predict
    return Sampling(
        max_tokens=limit if limit is not None and limit > 0 else None,  # 0 and below: no limit
        temperature=1.0 if given.temperature is None else given.temperature,
        top_p=1.0 if given.top_p is None else max(given.top_p, LEAST_TOP_P),
        top_k=max(0, given.top_k or 0),
        min_p=given.min_p or 0.0,
        presence_penalty=given.presence_penalty or 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        repetition_penalty=1.0 if given.repeat_penalty is None else given.repeat_penalty,
        seed=None if given.seed is None else given.seed & SEED_BITS,
        stop=stops_of(given.stop),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0 if body.logprobs else 0,
    )


def _unset(body: OllamaFields) -> frozenset[str]:
    given = body.options or Options()
    return unset(
        temperature=given.temperature,
        top_p=given.top_p,
        top_k=given.top_k,
        min_p=given.min_p,
        repetition_penalty=given.repeat_penalty,
        max_tokens=given.num_predict,
    )


def _grammar(body: OllamaFields) -> Grammar | None:
    if not body.format:
        return None
    if body.format == "json":
        return Grammar(kind=GrammarKind.JSON_OBJECT)
    return schema_grammar(body.format, param="format")


def _template_arguments(body: OllamaFields) -> str:
    if body.think is None:
        return ""
    effort = body.think if isinstance(body.think, str) else None
    return template_arguments(None, enable_thinking=bool(body.think), reasoning_effort=effort)


def _tooling(body: OllamaChatRequest) -> Tooling | None:
    offered = [
        tool(one.function.name, one.function.description, one.function.parameters, strict=one.function.strict,
             param=f"tools[{index}].function")
        for index, one in enumerate(body.tools or [])
    ]  # fmt: skip
    return tooling(offered, ToolChoice.AUTO)


def _message(message: Message, where: str, images: ImageBudget) -> ChatMessage:
    parts = _pictures(message.content or "", message.images, f"{where}.images", images)
    return ChatMessage(
        role=message.role,
        content="" if parts else message.content or "",
        name=message.tool_name or "",
        parts=parts,
        tool_calls=tuple(_call(one) for one in message.tool_calls or ()),
        tool_call_id=message.tool_call_id or "",
        reasoning=message.thinking or "",
    )


def _call(called: ToolCalled) -> ToolCall:
    arguments = msgspec.json.encode(called.function.arguments or {}).decode()
    return ToolCall(id=called.id or "", name=called.function.name, arguments=arguments)


def _pictures(text: str, given: list[str] | None, where: str, images: ImageBudget) -> tuple[ContentPart, ...]:
    """Images before the text, as Ollama puts them; empty without images."""
    if not given:
        return ()
    found = [
        image_from_base64(one, _media_type(one), images, param=f"{where}[{index}]") for index, one in enumerate(given)
    ]
    return (*found, text) if text else tuple(found)


def _media_type(packed: str) -> str:
    """From the first bytes, which base64 keeps apart."""
    kinds = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGO": "image/gif", "UklGR": "image/webp"}
    return next((kind for start, kind in kinds.items() if packed.startswith(start)), "image/png")
