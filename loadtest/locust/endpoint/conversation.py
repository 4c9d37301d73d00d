"""A conversation under way: what the next request says, and what its answer adds."""

import json
from dataclasses import dataclass, field
from typing import Any

from loadtest.locust.endpoint.heard import Heard
from loadtest.locust.sample import Sample
from loadtest.locust.workloads.sessions import Session, Turn

FEATURES = ("tools", "response_format", "ignore_eos")
"""Parameters that not every endpoint takes: tried once, before the run."""


@dataclass(slots=True)
class Conversation:
    """One session's messages so far. ``refused``: features that the endpoint does not take."""

    session: Session
    model: str
    temperature: float
    ignore_eos: bool
    refused: frozenset[str]
    slo: dict[str, float] | None = None  # told the endpoint
    messages: list[dict[str, Any]] = field(default_factory=list)
    _called: list[str] = field(default_factory=list)  # ids of the tool calls that wait for a result

    def __post_init__(self) -> None:
        missing = any(
            value and name in self.refused
            for name, value in (("tools", self.session.tools), ("response_format", self.session.response_format))
        )
        system = " ".join(text for text in (self.session.system, self.session.plain if missing else "") if text)
        if system:
            self.messages.append({"role": "system", "content": system})

    def request(self, turn: Turn) -> dict[str, Any]:
        """The body that sends this turn."""
        if self._called and turn.tool_result:
            self.messages += [
                {"role": "tool", "tool_call_id": one, "content": turn.tool_result if place == 0 else "done"}
                for place, one in enumerate(self._called)
            ]
        else:
            self.messages.append({"role": "user", "content": turn.text})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(self.messages),
            "max_tokens": turn.output_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.session.tools and "tools" not in self.refused:
            body["tools"] = list(self.session.tools)
        if self.session.response_format and "response_format" not in self.refused:
            body["response_format"] = self.session.response_format
        if self.ignore_eos and self.session.ignore_eos and "ignore_eos" not in self.refused:
            body["ignore_eos"] = True
        if self.slo:
            body["slo"] = self.slo
        return body

    def take(self, heard: Heard) -> None:
        """Add the answer, so that the next turn carries it."""
        message: dict[str, Any] = {"role": "assistant", "content": heard.text}
        calls: list[dict[str, Any]] = [
            {"id": call["id"] or f"call_{index}", "type": "function",
             "function": {"name": call["name"], "arguments": call["arguments"]}}
            for index, call in sorted(heard.calls.items())
        ]  # fmt: skip
        if calls:
            message["tool_calls"] = calls
        self._called = [call["id"] for call in calls]
        self.messages.append(message)


def sample_of(heard: Heard, session: Session, turn: int, *, due_s: float, began: float) -> Sample:
    """The sample of an answered turn; ``began``: the run's start on the monotonic clock."""
    shown = heard.disclosed
    return Sample(
        kind=session.kind,
        session=session.number,
        turn=turn,
        due_s=round(due_s, 6),
        sent_s=round(heard.sent - began, 6),
        written_s=None if heard.written is None else round(heard.written - began, 6),
        first_s=round(heard.at[0] - began, 6) if heard.at else None,
        ended_s=round(heard.ended - began, 6),
        status=heard.status,
        error=heard.error,
        code=heard.code,
        prompt_tokens=heard.prompt_tokens,
        cached_tokens=heard.cached_tokens,
        completion_tokens=heard.completion_tokens,
        events=len(heard.at),
        gaps_ms=[round(1000.0 * (later - one), 2) for one, later in zip(heard.at, heard.at[1:], strict=False)],
        worker=str(shown.get("worker") or heard.headers.get("x-allsorts-worker", "")),
        quantization=str(shown.get("quantization") or heard.headers.get("x-allsorts-quantization", "")),
        request_id=heard.request_id,
        continuations=len(shown.get("continuations") or ()),
        finish_reason=heard.finish_reason,
        valid_json=_is_object(heard.text) if session.response_format and not heard.error else None,
        server_ttft_s=shown.get("ttft_s"),
    )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
