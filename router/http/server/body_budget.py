"""What the bodies of all requests take of the router's memory together: a budget, and 503 for what does not fit.

A request is charged for each byte as it comes, then for what its prompt takes, until its answer has ended: a prompt is
kept for as long as the request may have to go on at another worker.

Where all is taken, the body that has been coming for longest gives way to a small one: a few senders that stop before
the end would else keep everybody out for as long as a body may take.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from protos.contract.request import ChatMessage
from router.domain.request import InferenceRequest
from router.errors import BodiesFull
from router.http.server.pace import Pace

SMALL_BYTES = 64 * 1024
"""Others give way to a body of up to so much."""

TOKEN_ID_BYTES = 40
"""Of one token id in a tuple: its place there and the number itself."""


class BodyShare:
    """What one request takes. Use as a context: at its end everything is given back."""

    __slots__ = ("_budget", "gave_way", "held", "pace", "unpacking")

    def __init__(self, budget: "BodyBudget") -> None:
        self._budget = budget
        self.held = 0
        self.gave_way = False  # to others, before it had come to its end
        self.pace = budget.pace
        self.unpacking = budget.unpacking

    @contextlib.contextmanager
    def coming(self, give_way: Callable[[], object]) -> Iterator[None]:
        """While the body comes. ``give_way`` is called when others need the room: what was taken counts no more."""
        self._budget.coming[self] = give_way
        try:
            yield
        finally:
            self._budget.coming.pop(self, None)

    def take(self, count: int) -> None:
        """So many bytes more. Raises BodiesFull when they do not fit; then nothing was taken."""
        if self.held + count <= SMALL_BYTES:
            self._budget.make_room(count, self)
        self._budget.take(count)
        self.held += count

    def full(self) -> BodiesFull:
        """What its sender is told when it gave way."""
        return BodiesFull(self._budget.limit_bytes)

    def settle(self, *requests: InferenceRequest) -> None:
        """The body became requests: from now on those count, and the body no longer. Raises BodiesFull."""
        kept = sum(weight_of(one) for one in _apart(requests))
        if kept > self.held:
            self.take(kept - self.held)
        else:
            self._budget.give(self.held - kept)
            self.held = kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.give(self.held)
        self.held = 0


class BodyBudget:
    """Of one router replica."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.pace = Pace()
        self.unpacking = asyncio.Semaphore(1)  # a kilobyte that unpacks to megabytes, many at once
        self.held = 0
        self.coming: dict[BodyShare, Callable[[], object]] = {}  # the one that began first is first

    def open(self) -> BodyShare:
        """A share for a request that arrives."""
        return BodyShare(self)

    def take(self, count: int) -> None:
        """Raises BodiesFull."""
        if self.held + count > self.limit_bytes:
            raise BodiesFull(self.limit_bytes)
        self.held += count

    def make_room(self, count: int, wanted: BodyShare) -> None:
        """Those that have been coming for longest give way until ``count`` bytes fit, or none is left."""
        for share, give_way in tuple(self.coming.items()) if self.held + count > self.limit_bytes else ():
            if share is wanted or not share.held:
                continue
            share.gave_way = True
            self.give(share.held)
            share.held = 0
            del self.coming[share]
            give_way()
            if self.held + count <= self.limit_bytes:
                return

    def give(self, count: int) -> None:
        """Back."""
        self.held -= count


def weight_of(request: InferenceRequest) -> int:
    """Bytes its prompt takes in memory: one letter beyond the common ones makes a text up to four times its size."""
    weight = sum(_message_weight(message) for message in request.messages)
    inputs = (request.prompt, *(request.embedding.inputs if request.embedding is not None else ()))
    weight += sum(_input_weight(one) for one in inputs)
    if request.tooling is not None:
        weight += sum(sys.getsizeof(one.parameters) + sys.getsizeof(one.description) for one in request.tooling.tools)
    return weight + sys.getsizeof(request.template_arguments)


def _input_weight(one: str | tuple[int, ...]) -> int:
    return TOKEN_ID_BYTES * len(one) if isinstance(one, tuple) else sys.getsizeof(one)


def _message_weight(message: ChatMessage) -> int:
    weight = sys.getsizeof(message.content) + sys.getsizeof(message.reasoning)
    weight += sum(sys.getsizeof(part) if isinstance(part, str) else len(part.data) for part in message.parts)
    return weight + sum(sys.getsizeof(call.arguments) for call in message.tool_calls)


def _apart(requests: Iterable[InferenceRequest]) -> Iterable[InferenceRequest]:
    """One for each prompt: several choices share it."""
    return {id(request.messages or request.prompt): request for request in requests}.values()
