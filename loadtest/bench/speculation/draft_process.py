"""A draft worker's serving half as a process of its own, for ``drafters.py``: prints where it listens, ends with its
standard input.
"""

import argparse
import asyncio
import sys

from workers.drafting.listener import listen
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.drafting.engine import LlamaCppDrafts

TARGET = "bench-target"


async def serve(path: str, slots: int, context_tokens: int) -> None:
    """Until nothing more can be read."""
    drafts, targets = LlamaCppDrafts(), PairedTargets()
    targets.tell("bench", [TARGET])
    spec = ModelSpec(
        name="draft", path=path, slots=slots, context_tokens=context_tokens, options={"threads": 1}
    )  # fmt: skip
    await drafts.load(spec, lambda _fraction, _message: None)
    service = DraftService(lambda: drafts, targets, tls=False)
    listener = await listen(service, "127.0.0.1:0", None, seen_from="127.0.0.1:1")
    print(listener.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop()
    await drafts.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=1024)
    options = parser.parse_args()
    asyncio.run(serve(options.model, options.slots, options.context))


if __name__ == "__main__":
    main()
