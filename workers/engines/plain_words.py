"""Text is text: what a user writes never becomes a special token, only what the chat template writes does. Pure.

``<|im_end|>`` typed by a user would end his turn, and whatever follows would speak as the system. Tokenizers find
special tokens anywhere in the rendered prompt, so each that stands in somebody's words is broken in two there by a
shield, and the prompt is tokenized piece by piece.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protos.contract.request import ChatMessage, Job
from protos.contract.tools import Tool, ToolCall, Tooling

SHIELD = "\ufdd0\ufdd1"
"""Two of Unicode's noncharacters, which are for use within a program and no part of any text."""


class PlainWords:
    """``markers``: the texts of a vocabulary's special tokens."""

    def __init__(self, markers: Iterable[str]) -> None:
        found = sorted({one for one in markers if len(one) > 1}, key=len, reverse=True)
        self._markers = re.compile("|".join(map(re.escape, found))) if found else None

    def shielded(self, job: Job) -> Job:
        """A chat in which no words of anybody hold a marker."""
        return replace(
            job,
            messages=tuple(self._message(one) for one in job.messages),
            tooling=None if job.tooling is None else self._tooling(job.tooling),
            template_arguments=self._json(job.template_arguments),
        )

    def _text(self, text: str) -> str:
        """With every marker broken behind its first letter; a shield that came with the text is none."""
        bare = text.replace(SHIELD, "") if SHIELD in text else text
        if self._markers is None:
            return bare
        return self._markers.sub(lambda found: found[0][0] + SHIELD + found[0][1:], bare)

    def _json(self, text: str) -> str:
        """JSON, in which a marker may be written with escapes and come out when a template reads it."""
        if "\\" not in text:
            return self._text(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self._text(text)
        shielded = self._value(value)
        return text if shielded == value else json.dumps(shielded, ensure_ascii=False)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, dict):
            return {self._text(name): self._value(one) for name, one in value.items()}
        return value

    def _message(self, message: ChatMessage) -> ChatMessage:
        return replace(
            message,
            content=self._text(message.content),
            name=self._text(message.name),
            parts=tuple(self._text(one) if isinstance(one, str) else one for one in message.parts),
            tool_calls=tuple(self._call(one) for one in message.tool_calls),
            tool_call_id=self._text(message.tool_call_id),
            reasoning=self._text(message.reasoning),
        )

    def _call(self, call: ToolCall) -> ToolCall:
        return replace(call, id=self._text(call.id), name=self._text(call.name), arguments=self._json(call.arguments))

    def _tooling(self, tooling: Tooling) -> Tooling:
        return replace(tooling, tools=tuple(self._tool(one) for one in tooling.tools))

    def _tool(self, tool: Tool) -> Tool:
        return replace(
            tool,
            name=self._text(tool.name),
            description=self._text(tool.description),
            parameters=self._json(tool.parameters),
        )
