"""Several requests of one call, answered as one stream of numbered chunks; a single one costs nothing more."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from router.domain.answer import Answer, AnswerHead, Chunk, Pour
from router.domain.request import InferenceRequest
from router.errors import WorkerFailed
from router.http.server.interfaces import Pipeline

AT_ONCE = 32
"""Answers of one call that are asked for at once; the others wait until one of these is complete."""

WAITING = 64
"""Chunks that wait to be written; a client that reads slowly holds up its own answers."""

Numbered = tuple[int, Chunk]
_Event = tuple[int, AnswerHead | Chunk | BaseException]


class Answering:
    """Ask with ``start``, read ``chunks``, end with ``aclose``; ``heads`` are known from each answer's first word."""

    def __init__(self, pipeline: Pipeline, requests: Sequence[InferenceRequest]) -> None:
        self._pipeline = pipeline
        self._requests = requests
        self.single: Answer | None = None  # where there is only one: to be read without numbers
        self._reading: AsyncGenerator[Numbered, None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._events: asyncio.Queue[_Event] = asyncio.Queue(WAITING)
        self.heads: dict[int, AnswerHead] = {}

    async def start(self) -> AnswerHead:
        """Returns once a worker has accepted the first of them. Raises AllsortsError."""
        if len(self._requests) == 1:
            self.single = await self._pipeline.answer(self._requests[0])
            self.heads[0] = self.single.head
            return self.single.head
        turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = [
            asyncio.create_task(self._one(number, request, turns)) for number, request in enumerate(self._requests)
        ]
        number, event = await self._events.get()  # an answer's first word, or its failure
        self._note(number, event)
        return self.heads[number]

    def chunks(self) -> AsyncIterator[Chunk] | AsyncIterator[Numbered]:
        """Those of a single answer as they are: numbering them would cost each a hop more.

        Raises AllsortsError when any of them breaks off.
        """
        if self.single is not None:
            return aiter(self.single)
        self._reading = self._numbered()
        return self._reading

    def pour_to(self, pour: Pour) -> None:
        """The short way for plain text, where there is one answer only."""
        if self.single is not None:
            self.single.pour_to(pour)

    async def _numbered(self) -> AsyncGenerator[Numbered, None]:
        left = len(self._requests)
        while left:
            number, event = await self._events.get()
            if isinstance(event, Chunk):
                left -= event.finish_reason is not None
                yield number, event
            else:
                self._note(number, event)

    def _note(self, number: int, event: AnswerHead | Chunk | BaseException) -> None:
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, AnswerHead):
            self.heads[number] = event

    async def aclose(self) -> None:
        """Stop what still runs. Idempotent."""
        if self._reading is not None:
            await self._reading.aclose()
        if self.single is not None:
            await self.single.aclose()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _one(self, number: int, request: InferenceRequest, turns: asyncio.Semaphore) -> None:
        put = self._events.put
        with contextlib.suppress(asyncio.CancelledError):
            async with turns:
                try:
                    answer = await self._pipeline.answer(request)
                    try:
                        await put((number, answer.head))
                        async for chunk in answer:
                            await put((number, chunk))
                            if chunk.finish_reason is not None:
                                return
                    finally:
                        await answer.aclose()
                    raise WorkerFailed("the answer broke off without an end")
                except Exception as error:  # noqa: BLE001 - raised again at the edge, which logs and answers
                    await put((number, error))
