"""Detection as a whole: this machine, recordings of others, probes that fail, and the self-test an owner runs."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from workers.hardware.detect import this_machine, understand, understood
from workers.hardware.probes import Probe, Reading, ask, ask_all
from workers.hardware.recording import VARIABLE, BadRecording, read_recording, redacted, write_recording
from workers.hardware.selftest import agreements, selftest

RECORDINGS = Path(__file__).parent / "recordings"


def test_this_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: a name, cores, memory, and no more usable than there is."""
    monkeypatch.delenv(VARIABLE, raising=False)
    found = this_machine()
    assert found.name
    assert 0 < found.usable_memory_bytes <= found.memory_bytes
    assert "recording" not in found.details


@pytest.mark.parametrize("folder", sorted(RECORDINGS.iterdir()), ids=lambda one: one.name)
def test_every_recording_names_its_source_and_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read instead of this machine, and marked as such."""
    assert len(read_recording(folder).source) > 20
    monkeypatch.setenv(VARIABLE, str(folder))
    found = this_machine()
    assert found.kind == folder.name.partition("-")[0].replace("arm", "cpu").replace("epyc", "cpu")
    assert found.name or folder.name == "nothing"
    assert found.details["recording"] == folder.name


@pytest.mark.parametrize(
    ("about", "says"),
    [(None, "cannot be read"), ("system = 3", "no recording"), ('system = "beos"\nsource = "x"', "'beos'")],
)
def test_a_folder_that_is_no_recording_is_refused_in_one_line(
    about: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable, the file and what is wrong."""
    if about is not None:
        (tmp_path / "recording.toml").write_text(about)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BadRecording, match=says) as caught:
        this_machine()
    assert VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_this_machine_says_can_be_written_and_read_back(tmp_path: Path) -> None:
    """A recording made here is understood as this machine is."""
    readings = ask_all()
    write_recording(tmp_path / "mine", readings)
    recorded = read_recording(tmp_path / "mine")
    assert understand(sys.platform, recorded.readings).name == understand(sys.platform, readings).name


def test_serial_numbers_do_not_leave_the_machine() -> None:
    """In JSON as in plain listings."""
    text = '"serial_number" : "C02XK1ZQK7Q2",\n"platform_UUID" : "0-1"\n    Serial Number     : 1650724004565\n'
    text += '    GPU UUID          : GPU-806f\n{"uuid": "GPU-31515c3d", "name": "NVIDIA"}\n'
    clean = redacted(text)
    for secret in ("C02XK1ZQK7Q2", "0-1", "1650724004565", "GPU-806f", "GPU-31515c3d"):
        assert secret not in clean
    assert "NVIDIA" in clean


def test_a_probe_that_fails_says_how_and_nothing_else_happens() -> None:
    """Missing program, failure, silence: one line each, never an exception."""
    python = sys.executable
    missing = ask(Probe(name="a", command=("/nonexistent/program",)))
    failing = ask(Probe(name="b", command=(python, "-c", "import sys; print('half'); sys.exit('driver mismatch')")))
    silent = ask(Probe(name="c", command=(python, "-c", "import time; time.sleep(60)"), deadline_s=0.5))
    nothing = ask(Probe(name="d", files=lambda: ("/nonexistent/file",)))
    assert missing is not None
    assert "cannot be run" in missing.error
    assert failing is not None
    assert (failing.output.strip(), failing.error) == ("half", "driver mismatch")
    assert silent is not None
    assert silent.error == "no answer within 0.5 s"
    assert nothing is not None
    assert nothing.error == "no such file"
    assert ask(Probe(name="e", command=("true",), only_with=("/nonexistent/driver",))) is None


def test_the_nvml_probe_says_why_it_cannot_answer() -> None:
    """As a program, on whatever machine: JSON or one line of reason."""
    reading = ask(Probe(name="nvml", command=(sys.executable, "-m", "workers.hardware.nvml_probe")))
    assert reading is not None
    assert bool(reading.output) != bool(reading.error)


@pytest.mark.skipif(sys.platform == "darwin", reason="Metal is there")
def test_the_metal_probe_says_why_it_cannot_answer() -> None:
    """Without Metal it is one line, not a traceback."""
    reading = ask(Probe(name="metal", command=(sys.executable, "-m", "workers.hardware.metal_probe")))
    assert reading is not None
    assert "cannot be loaded" in reading.error


def test_a_system_without_probes_is_still_a_machine() -> None:
    """Windows, say: what every system tells."""
    found = understood(understand("win32", ()))
    assert found.kind == "cpu"
    assert found.name
    assert found.cores >= 1
    assert found.memory_bytes > 0


def test_the_selftest_shows_probes_facts_and_agreement() -> None:
    """On this machine everything agrees; a failing probe would be counted."""
    console = Console(file=io.StringIO(), width=200)
    wrong = selftest(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "understood:" in shown
    assert "memory_bytes" in shown
    assert wrong == shown.count("FAIL") + shown.count("ODD")


def test_the_selftest_of_a_mac_finds_what_does_not_fit() -> None:
    """A Mac whose Metal names another chip, and whose pmset said nothing, is odd in these places only."""
    readings = read_recording(RECORDINGS / "apple-m5-macbook-pro").readings
    metal = '{"name": "Apple M5", "recommendedMaxWorkingSetSize": 19069665280, "hasUnifiedMemory": true}'
    complete = (
        *readings,
        Reading(name="metal", asked="", output=metal),
        Reading(name="pmset_batt", asked="", output="Now drawing from 'AC Power'\n"),
    )
    found = understand("darwin", complete)
    assert [one.what for one in agreements("darwin", complete, found) if not one.ok] == []
    wrong = (*readings, Reading(name="metal", asked="", output=metal.replace("Apple M5", "Apple M1")))
    odd = [one.what for one in agreements("darwin", wrong, understand("darwin", wrong)) if not one.ok]
    assert odd == ["metal", "power"]


def test_nvml_and_nvidia_smi_are_compared() -> None:
    """Two ways to the same facts."""
    readings = (
        *read_recording(RECORDINGS / "nvidia-h100-sxm-x8").readings,
        *read_recording(RECORDINGS / "nvidia-rtx-4090").readings,
    )
    found = understand("linux", readings)
    odd = {one.what: one for one in agreements("linux", readings, found)}
    assert not odd["nvidia-smi"].ok
    assert odd["compute capability"].ok
