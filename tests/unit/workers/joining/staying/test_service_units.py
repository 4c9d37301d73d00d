"""What `--install` writes, beside the unit that deploy/ has for the router: read by the systems' own readers."""

import configparser
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workers.joining.staying import service_units
from workers.joining.staying.service_units import Limits, unit

ROUTERS = Path(__file__).parents[5] / "deploy" / "systemd" / "allsorts-router.service"
COMMAND = [sys.executable, "-m", "workers.cli.join", "head:8099", "--node", 'a "b" 100% $c', "--yes"]


def sections(text: str) -> configparser.ConfigParser:
    """As systemd's files are written; keys keep their case."""
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(text)
    return found


def written(tmp_path: Path, **limits: int) -> str:
    return unit(COMMAND, tmp_path / "w.log", limits=Limits(**limits), platform="linux", home=tmp_path).content.decode()


def verified(tmp_path: Path, name: str, text: str, *more: str) -> str:
    """What systemd says of a unit; nothing is started."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    place = tmp_path / name
    place.write_text(text)
    command = ["systemd-analyze", *more, "verify", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "\n".join(one for one in done.stderr.splitlines() if name in one)


@pytest.mark.parametrize("limits", [{}, {"cores": 2, "memory_bytes": 2**30}])
def test_systemd_understands_every_line_of_a_workers_unit(tmp_path: Path, limits: dict[str, int]) -> None:
    """Quotes, percent signs and dollars in it too."""
    assert verified(tmp_path, service_units.UNIT, written(tmp_path, **limits), "--user") == ""


def test_systemd_understands_the_routers_unit(tmp_path: Path) -> None:
    """But for its program, which is not on this machine."""
    text = ROUTERS.read_text().replace("/opt/allsorts/bin/allsorts", sys.executable).replace("User=allsorts", "")
    assert verified(tmp_path, ROUTERS.name, text) == ""


def test_both_units_come_back_and_gain_no_rights(tmp_path: Path) -> None:
    """What one has for that, the other has; each has the time to let streams finish."""
    ours, theirs = sections(written(tmp_path)), sections(ROUTERS.read_text())
    for key in ("Restart", "NoNewPrivileges"):
        assert ours["Service"][key] == theirs["Service"][key]
    for one in (ours, theirs):
        assert int(one["Service"]["RestartSec"]) >= 1
        assert int(one["Service"]["TimeoutStopSec"]) >= 30
        assert one["Install"]["WantedBy"]


def test_a_macs_file_is_one_that_launchd_reads(tmp_path: Path) -> None:
    """**Never run on a Mac by us**: held to launchd.plist(5)'s types."""
    made = unit(COMMAND, tmp_path / "w.log", platform="darwin", home=tmp_path)
    content = plistlib.loads(made.content)
    types = {
        "Label": str,
        "ProgramArguments": list,
        "RunAtLoad": bool,
        "KeepAlive": dict,
        "ThrottleInterval": int,
        "ProcessType": str,
        "ExitTimeOut": int,
        "StandardOutPath": str,
        "StandardErrorPath": str,
    }
    assert {key: type(value) for key, value in content.items()} == types
    assert content["ProgramArguments"][: len(COMMAND)] == COMMAND
    assert made.path == tmp_path / "Library" / "LaunchAgents" / f"{content['Label']}.plist"
    assert content["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")


def test_another_system_is_told_what_to_do(tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(OSError, match="knows macOS and Linux, not win32"):
        unit(COMMAND, tmp_path / "w.log", platform="win32", home=tmp_path)
