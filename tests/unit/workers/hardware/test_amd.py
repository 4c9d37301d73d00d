"""AMD GPUs, from /sys and amd-smi: see recordings/*/recording.toml for where each output comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.worker import Hardware
from workers.hardware.amd import Card, describe_amd, parse_amd, parse_ids
from workers.hardware.detect import understand
from workers.hardware.recording import read_recording

RECORDINGS = Path(__file__).parent / "recordings"
MIB, GIB = 2**20, 2**30
HOST = Hardware(kind="cpu", name="", memory_bytes=128 * GIB, usable_memory_bytes=120 * GIB)


def outputs(name: str) -> dict[str, str]:
    return {one.name: one.output for one in read_recording(RECORDINGS / name).readings}


def recorded(name: str) -> Hardware:
    return understand("linux", read_recording(RECORDINGS / name).readings)


def test_a_card_has_its_own_memory() -> None:
    """In bytes from the driver, its name from libdrm's table by device and revision."""
    found = recorded("amd-rx-7900-xt")
    assert (found.kind, found.name, found.count) == ("amd", "AMD Radeon RX 7900 XT", 1)
    assert found.memory_bytes == 21458059264
    assert found.usable_memory_bytes == 21458059264 - 27856896
    assert "memory" not in found.details


def test_a_gpu_inside_the_processor_takes_the_larger_pool_once() -> None:
    """A Strix Halo: 4 GiB set aside, 96 to take of the rest; the host's memory does not count beside it."""
    found = recorded("amd-strix-halo")
    assert (found.kind, found.name) == ("amd", "AMD Radeon 8060S Graphics")
    assert found.memory_bytes == 96 * GIB
    assert found.details["memory"] == "unified"
    assert "host_memory_bytes" not in found.details
    (card,) = parse_amd(outputs("amd-strix-halo"))
    busy = describe_amd((card,), replace(HOST, usable_memory_bytes=20 * GIB))
    assert busy is not None
    assert busy.usable_memory_bytes == 20 * GIB, "what the host has left is all there is"


def test_memory_that_the_firmware_set_aside_is_no_host_memory() -> None:
    """The same chip with 96 GiB set aside in the firmware and 15 GiB of the rest."""
    card = Card(name="AMD Radeon 8060S Graphics", vram_bytes=96 * GIB, vram_used_bytes=20 * GIB, gtt_bytes=15 * GIB)
    found = describe_amd((card,), replace(HOST, memory_bytes=31 * GIB, usable_memory_bytes=28 * GIB))
    assert found is not None
    assert (found.memory_bytes, found.usable_memory_bytes) == (96 * GIB, 76 * GIB)
    assert found.details["memory"].startswith("unified, set aside")


def test_amd_smi_alone_tells_name_units_and_memory() -> None:
    """A recording without /sys."""
    found = recorded("amd-instinct-mi210")
    assert (found.name, found.cores, found.memory_bytes) == ("AMD Instinct MI210", 104, 65520 * MIB)
    assert found.details["target"] == "gfx90a"


def test_amd_smi_names_the_card_at_its_address() -> None:
    """Matched by PCI address; warnings before the JSON and its older form without a name are read too."""
    said = outputs("amd-rx-7900-xt")
    asic = '{"market_name": "Radeon RX 7900 XT by AMD", "num_compute_units": 84}'
    smi = f'WARNING: low power\n[{{"gpu": 0, "asic": {asic}, "bus": {{"bdf": "0000:0b:00.0"}}, "vram": "N/A"}}]'
    (card,) = parse_amd(said | {"amd_smi": smi})
    assert (card.name, card.compute_units) == ("Radeon RX 7900 XT by AMD", 84)
    (other,) = parse_amd(said | {"amd_smi": smi.replace("0b:00", "0c:00").replace("[{", "[{}, {")})
    assert other.vram_bytes == 21458059264


def test_a_chip_no_table_knows_is_shown_by_its_number() -> None:
    """Never refused, never taken for another."""
    (card,) = parse_amd({"amd_sysfs": outputs("amd-rx-7900-xt")["amd_sysfs"]})
    assert card.name == "AMD GPU 0x744c revision 0xcc"
    assert not card.unified


@pytest.mark.parametrize(
    ("card", "inside"),
    [
        (Card(name="AMD Radeon 780M", vram_bytes=16 * GIB, gtt_bytes=24 * GIB), True),
        (Card(name="AMD Radeon 890M Graphics", vram_bytes=GIB // 2, gtt_bytes=15 * GIB), True),
        (Card(name="AMD Radeon Graphics", vram_bytes=2 * GIB, gtt_bytes=8 * GIB), True),
        (Card(name="AMD GPU 0x1586 revision 0xc1", vram_bytes=GIB // 2, gtt_bytes=62 * GIB), True),
        (Card(name="AMD Radeon RX 7900 XTX", vram_bytes=24 * GIB, gtt_bytes=62 * GIB), False),
        (Card(name="AMD Radeon RX 570", vram_bytes=4 * GIB, gtt_bytes=4 * GIB), False),
        (Card(name="AMD Instinct MI300X", vram_bytes=192 * GIB, gtt_bytes=1000 * GIB), False),
    ],
)
def test_cards_and_gpus_inside_processors_are_told_apart(card: Card, inside: bool) -> None:
    """By name, else by a little memory set aside next to much that may be taken."""
    assert card.unified is inside


def test_a_card_comes_before_the_processors_own_gpu() -> None:
    """Engines leave that one alone then; numbers count what is left."""
    own = Card(name="AMD Radeon Graphics", bus="0000:01:00.0", vram_bytes=GIB // 2, gtt_bytes=15 * GIB)
    cards = (own, Card(name="A", bus="0000:03:00.0", vram_bytes=24 * GIB), Card(name="B", vram_bytes=16 * GIB))
    found = describe_amd(cards, HOST)
    assert found is not None
    assert (found.count, found.memory_bytes, found.details["devices"]) == (2, 40 * GIB, "1 x A, 1 x B")
    assert found.details["devices_memory_bytes"] == f"{24 * GIB}, {16 * GIB}"
    second = describe_amd(cards, HOST, "1")
    assert second is not None
    assert (second.name, second.memory_bytes) == ("B", 16 * GIB)
    assert describe_amd(cards, HOST, "") is None
    assert describe_amd((), HOST) is None


def test_a_card_that_does_not_tell_its_memory_has_none_that_is_known() -> None:
    """And says so."""
    found = describe_amd((Card(name="AMD Instinct MI300X"),), HOST)
    assert found is not None
    assert (found.memory_bytes, found.usable_memory_bytes) == (0, 0)
    assert found.details["memory"].startswith("unknown")


@pytest.mark.parametrize(
    "garbage", ["", "{", "[3, null]", '{"gpu_data": 3}', "==> /sys/class/drm/card0/device/vendor <==\n0x8086\n"]
)
def test_garbage_and_other_makers_are_no_gpu(garbage: str) -> None:
    """A parser never raises over what a program prints."""
    assert parse_amd({"amd_sysfs": garbage, "amd_smi": garbage, "amdgpu_ids": garbage}) == ()


def test_libdrms_table_is_read() -> None:
    """Its version line and comments are no entries."""
    table = parse_ids("# a comment\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n1586,\tD1,\tAMD Radeon 8060S Graphics\n")
    assert table == {(0x744C, 0xC8): "AMD Radeon RX 7900 XTX", (0x1586, 0xD1): "AMD Radeon 8060S Graphics"}
