"""A draft worker's process that does its work badly. ``python -m tests.support.lying_draft MODEL`` prints where it
listens; each line on standard input is the way it behaves from then on; the end of the input ends it.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from protos.contract.drafts import DraftContext, DraftProposal
from workers.drafting.listener import listen
from workers.drafting.room import Answer, DraftRoom
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.drafting.engine import LlamaCppDrafts

TARGET = "target"
SLOW_S = 1.0


class Mood:
    """How it behaves now."""

    now = "honest"


class LyingRoom:
    """What an honest model answers, made worse on its way."""

    def __init__(self, room: DraftRoom, loop: asyncio.AbstractEventLoop) -> None:
        self._room = room
        self._loop = loop

    def enter(self, target: str, answer: Answer) -> None:
        def worse(proposals: list[DraftProposal]) -> None:
            match Mood.now:
                case "slow":
                    self._loop.call_soon_threadsafe(self._loop.call_later, SLOW_S, answer, proposals)
                case "garbage":
                    answer([replace(one, token_ids=tuple(7 for _ in one.token_ids)) for one in proposals])
                case "outside the vocabulary":
                    answer([replace(one, token_ids=tuple(2**32 - 1 for _ in one.token_ids)) for one in proposals])
                case "other epoch":
                    answer([replace(one, epoch=one.epoch + 1) for one in proposals])
                case _:
                    answer(proposals)

        self._room.enter(target, worse)

    def tell(self, target: str, contexts: Sequence[DraftContext]) -> None:
        self._room.tell(target, contexts)

    def leave(self, target: str) -> None:
        self._room.leave(target)


class LyingRooms:
    def __init__(self, drafts: LlamaCppDrafts, loop: asyncio.AbstractEventLoop) -> None:
        self._drafts = drafts
        self._loop = loop

    def room_for(self, model: str, quantization: str, tokenizer_fingerprint: str) -> LyingRoom:
        return LyingRoom(self._drafts.room_for(model, quantization, tokenizer_fingerprint), self._loop)


async def serve(path: str) -> None:
    drafts, targets = LlamaCppDrafts(), PairedTargets()
    targets.tell("test", [TARGET])
    spec = ModelSpec(name="draft", path=path, slots=32, context_tokens=128, options={"threads": 1})
    await drafts.load(spec, lambda _fraction, _message: None)
    rooms = LyingRooms(drafts, asyncio.get_running_loop())
    listener = await listen(
        DraftService(lambda: rooms, targets, tls=False), "127.0.0.1:0", None, seen_from="127.0.0.1:1"
    )
    print(listener.address, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        Mood.now = line.strip()
        print("so be it", flush=True)
    await listener.stop()
    await drafts.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
