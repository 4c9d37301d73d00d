"""Rule: a machine whose owner allows it asks its head for a version now and then, and goes on whatever comes of it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from workers.joining.staying.following import follow_head

RUNS = "import sys; open(sys.argv[1], 'a').write('x'); print('level'); sys.exit(int(sys.argv[2]))"


@asynccontextmanager
async def following(*command: str, said_in: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(follow_head(list(command), said_in, first_s=0.0, every_s=0.01, poll_s=0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_asks_again_whatever_came_of_it(tmp_path: Path) -> None:
    """A run that fails, one that succeeds, a program that is not there: each is logged, what it said is kept."""
    for status, event in (("0", "upgrade.complete"), ("1", "upgrade.failed")):
        runs = tmp_path / f"runs{status}"
        with capture_logs() as logs:
            async with following(sys.executable, "-c", RUNS, str(runs), status, said_in=tmp_path / "said"):
                while len([one for one in logs if one["event"] == event]) < 2:
                    await asyncio.sleep(0.01)
        assert len(runs.read_text()) >= 2
        assert (tmp_path / "said").read_text() in ("level\n", "")
    with capture_logs() as logs:
        async with following("/nope", said_in=tmp_path / "said"):
            while len(logs) < 2:
                await asyncio.sleep(0.01)
    assert {one["event"] for one in logs} == {"upgrade.failed"}


async def test_an_upgrade_is_not_ended_with_the_version_that_asked_for_it(tmp_path: Path) -> None:
    """It waits for the new one, and brings the old one back where that does not come."""
    done = tmp_path / "done"
    slow = f"import time, pathlib; time.sleep(1.0); print('still'); pathlib.Path({str(done)!r}).touch()"
    async with following(sys.executable, "-c", slow, said_in=tmp_path / "said"):
        while not (tmp_path / "said").exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
    while not done.exists():
        await asyncio.sleep(0.05)
    assert (tmp_path / "said").read_text() == "still\n"
