"""Chips by what systems call them."""

import pytest

from router.capacity.chips import CHIPS, find_chip

GB = 1e9


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", "RTX 4070 Laptop"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Server"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000"),
        ("NVIDIA GB10", "DGX Spark"),
        ("AMD Radeon RX 7900 XT", "RX 7900 XT"),
        ("AMD Radeon RX 7900 XTX", "RX 7900 XTX"),
        ("AMD Radeon 8060S Graphics", "Strix Halo"),
        ("AMD Instinct MI300X", "MI300X"),
        ("Apple M4 Max", "M4 Max"),
        ("Apple M4 Max (Virtual)", "M4 Max"),
    ],
)
def test_a_chip_is_known_by_its_whole_name(name: str, chip: str) -> None:
    """As the driver spells it."""
    found = find_chip(name)
    assert found is not None
    assert found.name == chip


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4080 Ti", "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 3080 Ti Laptop GPU",
        "NVIDIA GeForce RTX 2080 with Max-Q Design", "GRID P40-24Q", "NVIDIA A40-8Q", "NVIDIA A100-40C",
        "GRID A100D-10C", "NVIDIA H100X", "NVIDIA H800", "NVIDIA L40G", "AMD Radeon RX 7900 M", "AMD Radeon 780M",
        "AMD Instinct MI300A", "Apple M4 Ultra", "NVIDIA Z900", "",
    ],
)  # fmt: skip
def test_a_name_that_says_more_is_another_chip(name: str) -> None:
    """Unknown, never its nearest relative: a virtual card, another power, another memory."""
    assert find_chip(name) is None


@pytest.mark.parametrize("chip", CHIPS, ids=lambda one: f"{one.name} {one.gpu_cores or ''}")
def test_every_name_of_the_catalogue_finds_its_own_entry(chip: object) -> None:
    """Aliases of two chips may be one, where memory tells them apart."""
    for name in (chip.name, *chip.aliases):  # type: ignore[attr-defined]
        memory = chip.memory_bytes  # type: ignore[attr-defined]
        assert find_chip(name, cores=chip.gpu_cores, memory_bytes=memory * 1e9 / 2**30) == chip  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "memory", "bandwidth", "compute"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 0, 1555 / 8, 312 / 7),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 0, 1555 / 2, 3 * 312 / 7),
        ("NVIDIA A100-SXM4-80GB MIG 7g.80gb", 0, 2039, 312),
        ("NVIDIA H100 80GB HBM3 MIG 1g.20gb", 0, 3350 / 4, 989 / 7),
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", 0, 3350 / 2, 3 * 989 / 7),
        ("NVIDIA A100-SXM4-40GB MIG", 19968 * 2**20, 1555 / 2, 4 * 312 / 7),
        ("NVIDIA H100 80GB HBM3 MIG", 0, 3350 / 8, 989 / 7),
    ],
)
def test_a_slice_is_its_share_of_the_card(name: str, memory: int, bandwidth: float, compute: float) -> None:
    """By its profile, else by its memory; where nobody tells either, the smallest."""
    found = find_chip(name, memory_bytes=memory)
    assert found is not None
    assert found.bandwidth_bytes_per_s == pytest.approx(bandwidth * GB)
    assert found.compute_flops == pytest.approx(compute * 1e12)


def test_jetsons_that_share_a_name_are_told_apart_by_their_memory() -> None:
    """All say Orin (nvgpu)."""
    sizes = {7.4: "Jetson Orin Nano", 15.3: "Jetson Orin NX", 61.4: "Jetson AGX Orin"}
    for gib, name in sizes.items():
        found = find_chip("Orin (nvgpu)", memory_bytes=gib * 2**30)
        assert found is not None
        assert found.name == name
