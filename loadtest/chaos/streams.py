"""Clients as they are: one streaming request each, with the time of every event and everything that came."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

STREAM_DEADLINE_S = 180.0


@dataclass(slots=True)
class Stream:
    """One request and what its client saw. Times are seconds on the system's monotonic clock."""

    model: str
    prompt: str
    max_tokens: int
    sent_at: float = 0.0
    event_times: list[float] = field(default_factory=list)  # of events that brought text, and of the end
    texts: list[str] = field(default_factory=list)
    request_id: str = ""
    worker: str = ""  # that began
    quantization: str = ""  # of that worker
    finish_reason: str = ""
    completion_tokens: int = -1
    moves: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.texts)

    @property
    def completed(self) -> bool:
        """It ended as its client asked."""
        return bool(self.finish_reason) and not self.error

    @property
    def ended_at(self) -> float | None:
        """When its last event came; None while it runs or if it broke off."""
        return self.event_times[-1] if self.completed else None

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return bool(self.finish_reason or self.error)

    @property
    def prefilling(self) -> bool:
        """Accepted, and no word of the answer has come."""
        return bool(self.worker) and not self.event_times and not self.over

    @property
    def decoding(self) -> bool:
        """Some of the answer is here, and more than half is to come."""
        return 2 <= len(self.event_times) < self.max_tokens / 2 and not self.over

    @property
    def gap_s(self) -> float:
        """Mean time between its events; 0.0 with fewer than two."""
        times = self.event_times
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0

    def in_words(self, since: float) -> str:
        """Which it is, for whoever looks for it in the logs."""
        moves = "".join(f", to {move['to_worker']} at token {move['at_token']}" for move in self.moves)
        sent = f"sent at {self.sent_at - since:+.2f} s"
        return f"{self.request_id} of {self.max_tokens} tokens, {sent}, {self.worker}{moves}"

    def in_flight(self, at: float) -> bool:
        """Sent and not ended at that time."""
        return self.sent_at <= at and (self.ended_at is None or self.ended_at > at)

    def longest_stall_s(self, since: float) -> float:
        """Longest time without an event, from ``since`` or from its start, to its end."""
        last = max(since, self.sent_at)
        longest = 0.0
        for at in self.event_times:
            if at > last:
                longest = max(longest, at - last)
                last = at
        return longest


async def run(stream: Stream, session: aiohttp.ClientSession, url: str, heard: Callable[[], None]) -> Stream:
    """Ask, read to the end, and say how it ended; raises nothing but cancellation. ``heard``: called after any news."""
    body = {
        "model": stream.model,
        "messages": [{"role": "user", "content": stream.prompt}],
        "max_tokens": stream.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream.sent_at = time.monotonic()
    try:
        async with asyncio.timeout(STREAM_DEADLINE_S), session.post(f"{url}/v1/chat/completions", json=body) as reply:
            stream.request_id = reply.headers.get("x-request-id", "")
            stream.worker = reply.headers.get("x-allsorts-worker", "")
            stream.quantization = reply.headers.get("x-allsorts-quantization", "")
            heard()
            if reply.status != 200:
                stream.error = f"{reply.status}: {(await reply.text())[:300]}"
                return stream
            async for line in reply.content:
                if line.startswith(b"data: {"):
                    _hear(stream, json.loads(line[6:]))
                    heard()
        if not stream.finish_reason and not stream.error:
            stream.error = "the stream ended without a finish reason"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        stream.error = stream.error or f"{type(error).__name__}: {error}"
    heard()
    return stream


def _hear(stream: Stream, event: dict[str, Any]) -> None:
    if "error" in event:
        stream.error = str(event["error"].get("message"))
        return
    if event.get("usage"):
        stream.completion_tokens = event["usage"]["completion_tokens"]
    for choice in event["choices"]:
        text = choice["delta"].get("content")
        if text:
            stream.texts.append(text)
        if text or choice["finish_reason"]:
            stream.event_times.append(time.monotonic())
        stream.finish_reason = choice["finish_reason"] or stream.finish_reason
    stream.moves = event.get("allsorts", {}).get("continuations", stream.moves)
