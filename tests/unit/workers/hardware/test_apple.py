"""Macs, from what their commands printed: see recordings/*/recording.toml for where each comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from workers.hardware.apple import (
    parse_mac,
    parse_metal,
    parse_power_mode,
    parse_power_source,
    parse_profiler,
    parse_sysctl,
)
from workers.hardware.recording import read_recording

RECORDINGS = Path(__file__).parent / "recordings"
GIB = 2**30


def outputs(name: str) -> dict[str, str]:
    return {one.name: one.output for one in read_recording(RECORDINGS / name).readings}


def test_an_m5_is_understood_from_its_profiler_and_sysctl() -> None:
    """Chip, GPU cores, unified memory, and processor levels as this macOS names them."""
    found = parse_mac(outputs("apple-m5-macbook-pro"))
    assert (found.kind, found.name, found.cores) == ("apple", "Apple M5", 10)
    assert found.memory_bytes == 24 * GIB
    assert found.details["model"] == "Mac17,2"
    assert found.details["cpu_cores"] == "10 (4 Super, 6 Efficiency)"
    assert found.details["metal"] == "metal4"
    assert found.details["gpu_cores"] == "10"


def test_without_metal_and_without_a_limit_the_working_set_is_not_guessed() -> None:
    """A share of the memory would be a guess: zero says that it is not known."""
    found = parse_mac(outputs("apple-m5-macbook-pro"))
    assert found.usable_memory_bytes == 0
    assert "working_set_by" not in found.details


def test_a_limit_the_owner_set_is_the_working_set_where_metal_says_nothing() -> None:
    """llama-server showed 26000 MiB on this very machine."""
    found = parse_mac(outputs("apple-m1-max-wired-limit"))
    assert found.usable_memory_bytes == 26000 * 2**20
    assert found.details["working_set_by"] == "iogpu.wired_limit_mb"
    assert not found.low_power


def test_metal_has_the_last_word_on_the_working_set() -> None:
    """It follows a changed limit (https://github.com/AlexsJones/llmfit/pull/754); 128 GiB Macs report 107.52 GiB."""
    metal = '{"name": "Apple M1 Max", "recommendedMaxWorkingSetSize": 22906503168, "hasUnifiedMemory": true}'
    found = parse_mac(outputs("apple-m1-max-wired-limit") | {"metal": metal})
    assert found.usable_memory_bytes == 22906503168
    assert found.details["working_set_by"] == "metal"


def test_a_machine_of_which_only_sysctl_is_known_is_still_reported() -> None:
    """What nobody said stays zero."""
    found = parse_mac(outputs("apple-m1-pro"))
    assert (found.kind, found.name, found.cores, found.memory_bytes) == ("apple", "Apple M1 Pro", 0, 0)
    assert found.details["cpu_cores"] == "10 (8 Performance, 2 Efficiency)"


def test_a_virtual_mac_reports_no_gpu() -> None:
    """Its chip is named as it names itself."""
    found = parse_mac(outputs("apple-m4-max-virtual"))
    assert (found.name, found.cores, found.memory_bytes) == ("Apple M4 Max (Virtual)", 0, 4 * GIB)


def test_a_chip_that_does_not_exist_yet_is_reported_as_itself() -> None:
    """Nothing here has a list of chips."""
    told = outputs("apple-m5-macbook-pro")["system_profiler"].replace("Apple M5", "Apple M9 Extreme")
    found = parse_mac({"system_profiler": told})
    assert (found.kind, found.name, found.cores) == ("apple", "Apple M9 Extreme", 10)


def test_an_intel_mac_is_a_cpu() -> None:
    """Shape: https://github.com/zeam-vm/cpu_info/issues/17."""
    text = "hw.memsize: 34359738368\nhw.ncpu: 16\nhw.model: MacBookPro16,1\n"
    text += "machdep.cpu.brand_string: Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz\n"
    found = parse_mac({"sysctl": text})
    assert (found.kind, found.cores, found.memory_bytes) == ("cpu", 16, 32 * GIB)
    assert found.name.startswith("Intel(R) Core(TM) i9")


def test_an_engine_without_metal_sees_the_processor() -> None:
    """An engine built for the CPU must not be priced as a GPU."""
    assert parse_mac(outputs("apple-m5-macbook-pro"), gpu=False).kind == "cpu"


@pytest.mark.parametrize(
    ("text", "on_battery"),
    [
        (
            "Now drawing from 'Battery Power'\n -InternalBattery-0 \t89%; discharging; 4:47 remaining present: true",
            True,
        ),
        ("Now drawing from 'Battery Power'\n -InternalBattery-0 \t90%; discharging; (no estimate) present: true", True),
        ("Now drawing from 'AC Power'\n -InternalBattery-0 \t88%; AC attached; not charging present: true", False),
        ("Now drawing from 'AC Power'\n -InternalBattery-0 \t91%; charging; 0:25 remaining present: true", False),
        ("Now drawing from 'AC Power'\n", False),
        ("", None),
    ],
)
def test_the_power_source_as_pmset_says_it(text: str, on_battery: bool | None) -> None:
    """Outputs: https://github.com/imwally/battstat/issues/2; a desktop: liquidprompt/liquidprompt#317."""
    assert parse_power_source(text) is on_battery


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (" tcpkeepalive         1\n powermode            2\n womp                 1\n", "high"),
        (" powermode            1\n", "low"),
        (" lowpowermode         1\n powermode            0\n", "automatic"),
        (" lowpowermode         1\n", "low"),
        (" hibernatemode        3\n standby              1\n", ""),
        ("", ""),
    ],
)
def test_the_power_mode_as_pmset_says_it(text: str, mode: str) -> None:
    """Both names exist; where both are printed, the newer one counts."""
    assert parse_power_mode(text) == mode


def test_low_power_mode_is_told_by_the_real_listing() -> None:
    """The line of this setting among all others."""
    text = outputs("apple-m1-max-wired-limit")["pmset"]
    assert parse_power_mode(text) == "automatic"
    assert parse_power_mode(text.replace("lowpowermode         0", "lowpowermode         1")) == "low"


@pytest.mark.parametrize("garbage", ["", "not json", "[]", "{}", '{"SPHardwareDataType": 3}', "[" * 100_000])
def test_garbage_is_nothing_said(garbage: str) -> None:
    """A parser never raises over what a command prints."""
    assert parse_profiler(garbage).chip == ""
    assert parse_metal(garbage).working_set_bytes == 0
    assert "hw.memsize" not in parse_sysctl(garbage)
    assert parse_mac({"system_profiler": garbage, "metal": garbage, "sysctl": garbage}).kind == "cpu"


def test_the_apple_gpu_is_chosen_among_several() -> None:
    """An external GPU does not hide it."""
    text = (
        '{"SPDisplaysDataType": [{"sppci_model": "AMD Radeon Pro 5500M", "spdisplays_vendor": "sppci_vendor_amd"},'
        '{"sppci_model": "Apple M2 Pro", "sppci_cores": "19", "spdisplays_vendor": "sppci_vendor_Apple"}]}'
    )
    assert replace(parse_profiler(text)).gpu_cores == 19
