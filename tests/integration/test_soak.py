"""The soak's short form: five minutes where the whole suite runs, half a minute of the same elsewhere."""

import os
from pathlib import Path

import pytest

from loadtest.soak.__main__ import RATE, soak

WHOLE = bool(os.environ.get("CI"))
MINUTES = 5.0 if WHOLE else 0.75


@pytest.mark.timeout(60 * MINUTES + 240)
async def test_nothing_grows_while_workers_and_clients_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, descriptors, tasks and claims are flat under load, and as before once the pool is idle."""
    root = Path.cwd()
    monkeypatch.setattr("loadtest.soak.__main__.keep", lambda name, figures: root / "build" / name)
    assert await soak(tmp_path / "pool", 60.0 * MINUTES, RATE if WHOLE else RATE / 2, 6.0, 1) == []
