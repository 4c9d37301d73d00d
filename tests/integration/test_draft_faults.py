"""Rule: whatever becomes of a draft under 32 streams, each stream is complete and right; the pair is paused with a
reason and comes back by itself.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.request import Sampling
from tests.contract.engines.rigs import Rig
from tests.support.lying_draft import TARGET
from workers.drafting.link import DraftLink
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.engines.table import make_engine

pytestmark = pytest.mark.model

STREAMS = 32
TOKENS = 12
"""Enough for a draft on a busy machine to read a prompt before its answer ends."""
WITHIN_S = 60.0


@dataclass
class DraftProcess:
    """A process that drafts, well or badly."""

    path: Path
    process: "subprocess.Popen[str]" = field(init=False)
    address: str = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.lying_draft", str(self.path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._line("127.0.0.1:")

    def behave(self, how: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how}\n")
        self.process.stdin.flush()
        self._line("so be it")

    def _line(self, begin: str) -> str:
        assert self.process.stdout is not None
        return next(line.strip() for line in self.process.stdout if line.startswith(begin))

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate()


@dataclass
class Crowd:
    """A target with 32 slots, and what its streams say without a draft."""

    rig: Rig
    draft: DraftProcess
    expected: list[str] = field(default_factory=list)

    @property
    def engine(self) -> LlamaCppEngine:
        assert isinstance(self.rig.engine, LlamaCppEngine)
        return self.rig.engine

    @property
    def report(self) -> DraftReport:
        (one,) = self.engine.draft_reports()
        return one

    def assign(self) -> None:
        """A pair of its own for each fault: what an earlier one taught is forgotten."""
        self.engine.assign_draft("m", "", None)
        self.engine.assign_draft("m", "", DraftLink(
            address=self.draft.address, draft_worker_id=WorkerId("draft"), own_worker_id=WorkerId(TARGET),
            tokenizer_fingerprint=self.rig.loaded.tokenizer_fingerprint, draft_length=2,
        ))  # fmt: skip

    async def answers(self) -> list[str]:
        way = Sampling(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
        runs = [
            await self.rig.submit(self.rig.job(f"{number} ships sailed to", sampling=way)) for number in range(STREAMS)
        ]
        await asyncio.gather(*(run.end() for run in runs))
        for run in runs:
            usage = run.deltas[-1].usage
            assert usage is not None
            assert usage.completion_tokens == TOKENS
        return [run.text for run in runs]

    async def until(self, *paused: str) -> None:
        """Work goes on until the pair is paused for one of these reasons; without one, until it is used (again)."""
        before = self.report.accepted

        def there() -> bool:
            report = self.report
            return any(why in report.paused for why in paused) if paused else report.accepted > before

        try:
            async with asyncio.timeout(WITHIN_S):
                while not there():
                    assert await self.answers() == self.expected
        except TimeoutError:
            pytest.fail(f"not {' or '.join(paused) or 'used'}: {self.report}")


@pytest.fixture
def draft(model_files: dict[str, Path]) -> Iterator[DraftProcess]:
    one = DraftProcess(model_files["q4_k_m"])
    one.start()
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
async def crowd(model_files: dict[str, Path], draft: DraftProcess) -> AsyncIterator[Crowd]:
    spec = ModelSpec(
        name="m", path=str(model_files["q8_0"]), context_tokens=128, slots=STREAMS,
        options={"exact": True, "threads": 1, "prefill_tokens": 256},
    )  # fmt: skip
    one = Crowd(Rig("llama.cpp", make_engine("llama.cpp"), spec), draft)
    try:
        await one.rig.start()
        one.expected = await one.answers()
        yield one
    finally:
        await one.rig.stop()


async def test_a_draft_that_is_stopped_goes_on_or_is_killed_costs_no_stream_anything(crowd: Crowd) -> None:
    """SIGSTOP while it drafts: paused; SIGCONT: back by itself. SIGKILL: not reached; another one in its place."""
    crowd.assign()
    await crowd.until()
    crowd.draft.process.send_signal(signal.SIGSTOP)
    await crowd.until("late", "nothing heard")
    crowd.draft.process.send_signal(signal.SIGCONT)
    await crowd.until()
    answering = asyncio.create_task(crowd.answers())
    await asyncio.sleep(0)
    crowd.draft.process.kill()
    assert await answering == crowd.expected
    await crowd.until("not reached")
    crowd.draft.end()
    crowd.draft.start()
    crowd.assign()
    await crowd.until()


async def test_a_draft_that_lies_is_not_believed(crowd: Crowd) -> None:
    """Tokens outside the vocabulary are no mistake, and that is told; what is merely wrong or late is not accepted,
    and is back with the first honest word. (``tests/unit/workers/drafting/test_client.py`` has the other lies.)
    """
    for how in ("garbage", "other epoch", "slow"):
        crowd.assign()
        crowd.draft.behave(how)
        assert await crowd.answers() == crowd.expected
    crowd.draft.behave("honest")
    await crowd.until()
    crowd.draft.behave("outside the vocabulary")
    await crowd.until("outside the vocabulary")
