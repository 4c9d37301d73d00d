"""Faults on demand, on the engine as a worker runs it: by the control file and in process."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protos.contract.request import Job, Sampling
from protos.contract.stream import Delta
from protos.contract.worker import Load
from tests.support.until import until_async
from workers.engines.base import EngineFailed, ModelSpec
from workers.engines.simulated.engine import SimulatedEngine
from workers.engines.simulated.faults import NO_FAULT, ControlFile, Fault, FaultError, parse_fault

WITHIN_S = 120.0
PROFILE = """
machine = "rtx-4090"
[model]
shape = "smollm2-135m"
[behaviour]
load_s = 0.0
"""


class Running:
    """The engine, its profile's control file, and everything it said."""

    def __init__(self, folder: Path) -> None:
        self.engine = SimulatedEngine()
        self.profile = folder / "sim.toml"
        self.control = folder / "sim.toml.control"
        self.deltas: list[Delta] = []
        self.failure = ""
        self._news = asyncio.Event()

    async def start(self) -> None:
        self.profile.write_text(PROFILE)
        await self.engine.load(ModelSpec(name="m", path=str(self.profile)), lambda *_: None)
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for result in self.engine.steps():
                self.deltas += result.deltas
                self._news.set()
        except EngineFailed as failed:
            self.failure = str(failed)
            self._news.set()

    async def submit(self, tokens: int = 8000) -> None:
        sampling = Sampling(max_tokens=tokens, ignore_eos=True)
        await self.engine.submit(
            Job(request_id="r", attempt=1, model="m", quantization="fp16", prompt="a b c", sampling=sampling)
        )

    async def until(self, reached: Callable[[], object]) -> None:
        await until_async(reached, lambda: f"{self.steps} steps, {self.tokens} tokens", within_s=WITHIN_S)

    @property
    def tokens(self) -> int:
        return sum(delta.token_count for delta in self.deltas)

    @property
    def steps(self) -> int:
        """Steps the engine has computed, delivered or not."""
        return self.engine.load_figures().step_sequence

    async def end(self) -> None:
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)
        await self.engine.close()

    async def stands_still(self) -> bool:
        """Whether it computes nothing while an engine like it, on the same event loop, writes hundreds of tokens."""
        before = self.steps
        folder = self.profile.parent / "twin"
        folder.mkdir()
        twin = Running(folder)
        await twin.start()
        try:
            await twin.submit(400)
            await twin.until(lambda: any(delta.finish_reason for delta in twin.deltas))
            assert twin.tokens == 400
        finally:
            await twin.end()
        return self.steps == before


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    one = Running(tmp_path)
    await one.start()
    yield one
    await one.end()


async def test_a_hang_leaves_the_figures_with_work_and_no_step(running: Running) -> None:
    """Until it ends; then the answer goes on where it stood. By the control file, written while it runs."""
    await running.submit(4000)
    await running.until(lambda: running.tokens)
    running.control.write_text('{"hang": true}')
    await running.until(lambda: running.engine._fault.hang)
    assert await running.stands_still()
    assert running.engine.load_figures().running == 1
    running.control.unlink()
    await running.until(lambda: any(delta.finish_reason for delta in running.deltas))
    assert running.tokens == 4000


async def test_a_stall_ends_by_itself(running: Running) -> None:
    """No step before its time is over, and nothing is lost."""
    await running.submit(4000)
    await running.until(lambda: running.tokens)
    began = time.monotonic()
    running.engine.inject(Fault(stall_s=1.0))
    before = running.steps
    await running.until(lambda: running.steps > before)
    assert time.monotonic() - began >= 1.0
    await running.until(lambda: any(delta.finish_reason for delta in running.deltas))
    assert running.tokens == 4000


async def test_a_reader_that_is_cancelled_in_the_moment_of_news_ends(running: Running) -> None:
    """The news must not take the cancellation's place."""
    await running.submit()
    await running.until(lambda: running.tokens)
    running.engine.inject(Fault(lie="idle"))
    running.reading.cancel()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(running.reading, return_exceptions=True)
    assert running.reading.cancelled()


async def test_a_crash_ends_the_steps_and_nothing_is_taken_any_more(running: Running) -> None:
    """With the reason that was asked for."""
    await running.submit()
    await running.until(lambda: running.tokens)
    running.control.write_text('{"crash": "somebody pulled the plug"}')
    await running.until(lambda: running.failure)
    assert running.failure == "somebody pulled the plug"
    with pytest.raises(EngineFailed, match="plug"):
        await running.submit()


async def test_a_liar_says_that_nothing_runs(running: Running) -> None:
    """While it answers."""
    await running.submit()
    await running.until(lambda: running.tokens)
    running.engine.inject(Fault(lie="idle"))
    assert running.engine.load_figures() == Load()
    said = running.tokens
    await running.until(lambda: running.tokens > said)
    running.engine.inject(NO_FAULT)
    assert running.engine.load_figures().running == 1


async def test_a_control_file_that_makes_no_sense_changes_nothing(running: Running) -> None:
    """It is logged once; the next one counts."""
    await running.submit()
    running.control.write_text('{"hagn": true}')
    await running.until(lambda: running.tokens)
    said = running.tokens
    await running.until(lambda: running.tokens > said)
    assert running.engine._fault == NO_FAULT
    running.control.write_text('{"hang": true}')
    await running.until(lambda: running.engine._fault.hang)


def test_an_exit_takes_the_whole_process_along(tmp_path: Path) -> None:
    """With the status that was asked for, at once."""
    program = (
        "import asyncio\n"
        "from workers.engines.base import ModelSpec\n"
        "from workers.engines.simulated.engine import SimulatedEngine\n"
        "from workers.engines.simulated.faults import Fault\n"
        "async def main():\n"
        "    engine = SimulatedEngine()\n"
        "    await engine.load(ModelSpec(name='m', path='rtx-4090', options={'shape': 'smollm2-135m'}), print)\n"
        "    engine.inject(Fault(exit=9))\n"
        "    print('still here')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 9
    assert "still here" not in ended.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "wants one JSON object"),
        ('{"hagn": true}', "there is no fault 'hagn'; choose one of slow, stall_s, hang"),
        ('{"slow": "very"}', "slow cannot be 'very'"),
        ('{"slow": 0}', "slow is above zero"),
        ('{"lie": "busy"}', 'lie can be "idle"'),
    ],
)
def test_a_fault_that_cannot_be_names_file_and_field(text: str, says: str) -> None:
    """One line."""
    with pytest.raises(FaultError, match=says) as error:
        parse_fault(text, "sim.control")
    assert str(error.value).startswith("sim.control: ")


def test_a_control_file_tells_each_change_once(tmp_path: Path) -> None:
    """A missing file is no fault; a file that is removed ends it."""
    control = ControlFile(tmp_path / "control")
    assert control.changed() is None
    control.path.write_text('{"slow": 3}')
    assert control.changed() == Fault(slow=3)
    assert control.changed() is None
    control.path.unlink()
    assert control.changed() == NO_FAULT
