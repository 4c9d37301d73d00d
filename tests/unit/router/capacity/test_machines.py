"""Machines as people write them and as workers report them."""

import pytest

from protos.contract.worker import Hardware
from router.capacity.chips import find_chip
from router.capacity.machine_text import parse_machine, parse_machines
from router.capacity.machines import GIB, mac_working_set, machine_of
from router.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "kind", "count", "memory", "bandwidth"),
    [
        ("M4 Max 128GB", "apple", 1, 128, 546e9),
        ("m4 max 36GB", "apple", 1, 36, 410e9),
        ("M4 Max 32c 64GB", "apple", 1, 64, 410e9),
        ("H100", "nvidia", 1, 80, 3350e9),
        ("A100 40GB", "nvidia", 1, 40, 1555e9),
        ("2x RTX 4090 + 64GB", "nvidia", 2, 48, 1008e9),
        ("Ryzen AI Max 395 128GB", "amd", 1, 128, 256e9),
        ("MI300X", "amd", 1, 192, 5300e9),
        ("NVIDIA GeForce RTX 4090 24GB", "nvidia", 1, 24, 1008e9),
        ("NVIDIA A100-SXM4-80GB", "nvidia", 1, 80, 2039e9),
        ("8 x NVIDIA H100 80GB HBM3 + 2TB RAM", "nvidia", 8, 640, 3350e9),
        ("Apple M4 Max (40-core GPU) 128 GB", "apple", 1, 128, 546e9),
        ("Mac Studio M2 Ultra 192GB", "apple", 1, 192, 800e9),
        ("2xH100", "nvidia", 2, 160, 3350e9),
        ("2x H100 NVL", "nvidia", 2, 188, 3938e9),
        ("Ryzen AI Max+ 395 128GB", "amd", 1, 128, 256e9),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S 128GB", "amd", 1, 128, 256e9),
        ("ryzen ai max+ pro 395 64gb", "amd", 1, 64, 256e9),
        ("4090", "nvidia", 1, 24, 1008e9),
        ("2x 3090", "nvidia", 2, 48, 936e9),
        ("7900 XTX", "amd", 1, 24, 960e9),
        ("RTX 4090 Laptop GPU", "nvidia", 1, 16, 576e9),
        ("DGX Spark", "nvidia", 1, 128, 273e9),
        ("Jetson AGX Orin 32GB", "nvidia", 1, 32, 204.8e9),
        ("A100 40GB MIG 3g.20gb", "nvidia", 1, 20, 1555e9 / 2),
    ],
)
def test_machines_are_read(text: str, kind: str, count: int, memory: float, bandwidth: float) -> None:
    """Chip, number and memory; of variants, the one that is sold with that memory or has those cores."""
    machine = parse_machine(text)
    assert machine.chip is not None
    hardware = machine.hardware
    assert (hardware.kind, hardware.count, machine.chip.bandwidth_bytes_per_s) == (kind, count, bandwidth)
    assert hardware.memory_bytes == memory * GIB


def test_memory_beside_the_accelerators_is_the_hosts() -> None:
    """It is where layers are offloaded to, and never counted as the GPU's."""
    machine = parse_machine("RTX 4090 + 64GB")
    assert machine.host_memory_bytes == 64 * GIB
    assert machine.hardware.usable_memory_bytes == 24 * GIB


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("RTX 409", "RTX 4090"),
        ("M4 Max", "M4 Max 64GB"),
        ("M4 Ultra", "no such chip"),
        ("cpu", "cpu 64GB"),
        ("0x H100", "between 1 and"),
        ("2x M4 Max 64GB", "--on once for each"),
        ("H100 + lots", "+ 64GB"),
        ("", "no such chip"),
        ("1000000x H100", "1000000 devices; write a number between 1 and 64"),
        ("-1x H100", "-1 devices"),
        ("1.5x H100", "1.5 devices"),
        ("M4 Max 128GB x2", "comes first"),
        ("H100 x2", "'2x H100 SXM'"),
        ("2 H100", "comes first"),
        ("foo H100 bar", "'foo bar' says nothing"),
        ("RTX 3080 Ti", "'ti' says nothing of a RTX 3080"),
        ("M4 Max -128GB", "'-' says nothing"),
        ("H100 RTX 4090", "says nothing"),
        ("H100 80GB 40GB", "two sizes"),
        ("H100 + -64GB", "+ 64GB"),
        ("H100 + 64GB + 32GB", "+ 64GB"),
        ("H100 +", "+ 64GB"),
        ("2x cpu 64GB", "write it all at once"),
        ("RTX 4080 Ti", "'ti' says nothing of a RTX 4080"),
        ("DGX Spark + 64GB", "one memory for all"),
        ("2x DGX Spark", "--on once for each"),
        ("Ryzen AI Max+ 395 + lots", "+ 64GB"),
    ],
)
def test_what_is_no_machine_is_one_line_that_helps(text: str, hint: str) -> None:
    """What was written, and what to write instead."""
    with pytest.raises(ConfigError) as raised:
        parse_machine(text)
    assert hint in raised.value.message
    assert repr(text) in raised.value.message
    assert "\n" not in raised.value.message


def test_a_macs_working_set_is_what_others_reported_and_grows_with_memory() -> None:
    """16 GiB: 10.67; 32: 21.33; 128: 107.52 (FACTS.md). What a Mac reports of itself wins."""
    for memory, seen in ((16, 10.67), (32, 21845 / 1024), (128, 107.52)):
        assert mac_working_set(memory * GIB) == pytest.approx(seen * GIB)
    sizes = [mac_working_set(memory * GIB) for memory in range(1, 513)]
    assert sizes == sorted(sizes)
    reported = Hardware(kind="apple", name="Apple M4 Max", memory_bytes=128 * 2**30, usable_memory_bytes=100 * 2**30)
    assert machine_of(reported).hardware.usable_memory_bytes == 100 * 2**30


def test_a_worker_with_cards_reports_its_hosts_memory_too() -> None:
    """In the details, as hardware detection writes it."""
    card = Hardware(
        kind="nvidia", name="NVIDIA GeForce RTX 4090", memory_bytes=24 * 2**30, usable_memory_bytes=23 * 2**30,
        details={"host_memory_bytes": str(64 * 2**30)},
    )  # fmt: skip
    assert machine_of(card).host_memory_bytes == 64 * 2**30


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("H100, 4090, M1 16GB", ["H100", "4090", "M1 16GB"]),
        ("H100", ["H100"]),
        ("M1 Max, 64GB", ["M1 Max 64GB"]),
        ("Apple M4 Max, 40-core GPU, 128 GB memory,H100", ["Apple M4 Max 40-core GPU 128 GB memory", "H100"]),
        ("2x RTX 4090 + 64GB,Ryzen AI Max+ 395 128GB", ["2x RTX 4090 + 64GB", "Ryzen AI Max+ 395 128GB"]),
        ("RTX 4090, + 64GB", ["RTX 4090 + 64GB"]),
    ],
)
def test_a_comma_parts_machines_unless_it_stands_inside_one(text: str, names: list[str]) -> None:
    """A size of memory or a number of cores alone is no machine."""
    assert [one.name for one in parse_machines(text)] == names


@pytest.mark.parametrize("text", ["", ",", "H100,,M1 16GB,foo"])
def test_a_list_with_no_machine_in_it_is_refused(text: str) -> None:
    """One line, as for one machine."""
    with pytest.raises(ConfigError, match="no such chip"):
        parse_machines(text)


@pytest.mark.parametrize(
    ("text", "usable"), [("DGX Spark", 112.6), ("Ryzen AI Max+ 395 128GB", 96.0), ("Jetson AGX Orin 64GB", 56.3)]
)
def test_one_memory_for_all_is_counted_once_and_not_given_whole(text: str, usable: float) -> None:
    """The processor lives there too, and no layers can be offloaded to it."""
    machine = parse_machine(text)
    assert machine.hardware.usable_memory_bytes / GIB == pytest.approx(usable, abs=0.1)
    assert machine.host_memory_bytes == 0
    assert machine.accelerated
    assert not machine.discrete


def test_what_nobody_told_of_a_machine_is_not_made_up() -> None:
    """A slice whose size the driver keeps to itself has none to plan with; a Mac's working set is no share of it."""
    silent = Hardware(kind="nvidia", name="NVIDIA H100 80GB HBM3 MIG", details={"memory": "unknown: no permission"})
    assert machine_of(silent).hardware.usable_memory_bytes == 0
    mac = Hardware(kind="apple", name="Apple M1", memory_bytes=16 * 2**30)
    assert machine_of(mac).hardware.usable_memory_bytes == pytest.approx(10.67 * GIB)


@pytest.mark.parametrize(
    ("text", "count", "gib", "host", "devices"),
    [
        ("RTX 4090 + RTX 3060", 2, 36, 0, "1 x RTX 4090, 1 x RTX 3060"),
        ("RTX 3090 + 2x RTX 3060 + 64GB", 3, 48, 64, "1 x RTX 3090, 2 x RTX 3060"),
        ("2x 4090 + 3090 + 128GB RAM", 3, 72, 128, "2 x RTX 4090, 1 x RTX 3090"),
        ("RX 7900 XTX + 7800 XT", 2, 40, 0, "1 x RX 7900 XTX, 1 x RX 7800 XT"),
    ],
)
def test_a_box_may_have_cards_of_several_kinds(text: str, count: int, gib: int, host: int, devices: str) -> None:
    """Each with its own memory; the host's comes last."""
    machine = parse_machine(text)
    assert (machine.hardware.count, machine.hardware.memory_bytes) == (count, gib * GIB)
    assert machine.host_memory_bytes == host * GIB
    assert machine.hardware.details["devices"] == devices
    assert machine.chip is not None
    slowest = min(one.bandwidth_bytes_per_s for part in text.split("+")[:2] for one in [find_chip(words(part))] if one)
    assert slowest < machine.chip.bandwidth_bytes_per_s


def words(part: str) -> str:
    """A card as the catalogue has it."""
    name = part.strip().removeprefix("2x ")
    return name if name.startswith("R") else f"{'RX' if 'X' in name else 'RTX'} {name}"


def test_two_cards_of_one_kind_are_alike_however_they_are_written() -> None:
    """Nothing is said of kinds then."""
    machine = parse_machine("RTX 4090 + RTX 4090")
    assert (machine.hardware.count, machine.hardware.details) == (2, {})


@pytest.mark.parametrize("text", ["RTX 4090 + RX 7900 XTX", "RTX 4090 + M4 Max 64GB", "DGX Spark + RTX 4090"])
def test_cards_that_share_no_model_are_refused(text: str) -> None:
    """Two makers, or a memory that is the host's."""
    with pytest.raises(ConfigError, match="only cards of one maker"):
        parse_machine(text)
