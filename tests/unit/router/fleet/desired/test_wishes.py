"""Wishes for hardware, as people write them."""

import pytest

from protos.contract.worker import Hardware
from router.fleet.desired.wishes import GIB, BadWish, parse_wish

H100 = Hardware(
    kind="nvidia", name="NVIDIA H100 80GB HBM3", count=2, memory_bytes=160 * GIB, usable_memory_bytes=150 * GIB
)
RTX = Hardware(kind="nvidia", name="NVIDIA GeForce RTX 4090", memory_bytes=24 * GIB)
MAC = Hardware(kind="apple", name="Apple M4 Max", memory_bytes=128 * GIB, usable_memory_bytes=107 * GIB)
BOX = Hardware(kind="cpu", name="AMD EPYC", memory_bytes=24 * GIB)


@pytest.mark.parametrize(
    ("text", "met_by"),
    [
        ("", [H100, RTX, MAC, BOX]),
        ("any Mac", [MAC]),
        ("Macs", [MAC]),
        ("24 GiB and CUDA", [H100, RTX]),
        ("100 GiB, Mac", [MAC]),
        ("a GPU", [H100, RTX, MAC]),
        ("2 GPUs", [H100]),
        ("CPU", [BOX]),
        ("H100", [H100]),
        ("m4 max", [MAC]),
        ("200 GB", []),
        ("ROCm", []),
    ],
)
def test_a_wish_is_met_by_those_it_means(text: str, met_by: list[Hardware]) -> None:
    """Each clause must be met."""
    wish = parse_wish(text)
    assert [one for one in (H100, RTX, MAC, BOX) if not wish.unmet(one)] == met_by


@pytest.mark.parametrize("text", ["24", "CUDA and", "and", "2", "CUDA,,H100"])
def test_what_wishes_for_nothing_is_refused(text: str) -> None:
    """With examples of what may stand there."""
    with pytest.raises(BadWish):
        parse_wish(text)
