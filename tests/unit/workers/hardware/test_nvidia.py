"""NVIDIA GPUs, from NVML and from nvidia-smi: see recordings/*/recording.toml for where each output comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from workers.hardware.detect import understand
from workers.hardware.nvidia import Gpu, Gpus, describe, parse_nvml, visible_devices
from workers.hardware.nvidia_smi import parse_nvidia_smi
from workers.hardware.recording import read_recording

RECORDINGS = Path(__file__).parent / "recordings"
MIB = 2**20


def text(name: str, probe: str) -> str:
    return next(one.output for one in read_recording(RECORDINGS / name).readings if one.name == probe)


def test_an_h100_sxm_by_nvml() -> None:
    """Name, form, memory, capability, multiprocessors and NVLink."""
    found = describe(parse_nvml(text("nvidia-h100-sxm-x8", "nvml")))
    assert found is not None
    assert (found.kind, found.name, found.count) == ("nvidia", "NVIDIA H100 80GB HBM3", 2)
    assert found.memory_bytes == 2 * 85520809984
    assert found.compute_capability == "9.0"
    assert found.cores == 132
    assert found.interconnect == "nvlink"
    assert found.details["form_factor"] == "sxm"
    assert found.details["nvlinks"] == "18"
    assert found.details["cuda"] == "12.7"
    assert found.details["pcie"] == "5.0 x16"


def test_an_h100_nvl_by_nvidia_smi_is_a_pcie_card() -> None:
    """Every GPU of the report, each with its own memory."""
    gpus = parse_nvidia_smi(text("nvidia-h100-nvl-x2", "nvidia_smi"))
    assert [one.bus for one in gpus.devices] == ["00000000:AD:00.0", "00000000:AE:00.0"]
    found = describe(gpus)
    assert found is not None
    assert (found.name, found.count) == ("NVIDIA H100 NVL", 2)
    assert found.memory_bytes == 2 * 95830 * MIB
    assert found.usable_memory_bytes == 2 * 95235 * MIB
    assert found.details["form_factor"] == "pcie"
    assert found.details["driver"] == "550.54.14"
    assert found.details["power_limit_w"] == "310"


def test_an_a100_sxm_by_nvidia_smi() -> None:
    """The name says SXM."""
    (gpu,) = parse_nvidia_smi(text("nvidia-a100-sxm4", "nvidia_smi")).devices
    assert (gpu.form_factor, gpu.memory_bytes, gpu.pcie_generation) == ("sxm", 81920 * MIB, 4)


def test_a_geforce_leaves_much_unsaid() -> None:
    """N/A is nothing said, not a part number."""
    (gpu,) = parse_nvidia_smi(text("nvidia-rtx-4090", "nvidia_smi")).devices
    assert (gpu.name, gpu.form_factor, gpu.board_part_number) == ("NVIDIA GeForce RTX 4090", "pcie", "")
    assert gpu.free_bytes == 24210 * MIB
    assert not gpu.mig


@pytest.mark.parametrize(
    ("name", "board", "form"),
    [
        ("NVIDIA H100 80GB HBM3", "692-2G520-0200-000", "sxm"),
        ("NVIDIA H200", "695-2G520-0280-000", "sxm"),
        ("NVIDIA H800", "692-2G520-0205-000", "sxm"),
        ("Tesla V100-SXM2-16GB", "900-2G503-0100-000", "sxm"),
        ("NVIDIA H100 PCIe", "", "pcie"),
        ("NVIDIA H100 NVL", "900-21010-0020-000", "pcie"),
        ("NVIDIA GH200 480GB", "900-2G530-0060-000", "superchip"),
        ("NVIDIA L40S", "", "pcie"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "", "mobile"),
        ("NVIDIA Z900", "", ""),
    ],
)
def test_the_form_follows_name_and_board(name: str, board: str, form: str) -> None:
    """Board numbers as nvidia-smi printed them; what neither tells is not claimed."""
    assert Gpu(name=name, board_part_number=board).form_factor == form


def test_a_card_nobody_has_heard_of_is_reported_as_itself() -> None:
    """With what the driver says of it."""
    said = text("nvidia-h100-sxm-x8", "nvml").replace("NVIDIA H100 80GB HBM3", "NVIDIA Z900 1TB")
    found = describe(parse_nvml(said))
    assert found is not None
    assert (found.name, found.memory_bytes) == ("NVIDIA Z900 1TB", 2 * 85520809984)


def test_only_visible_devices_count() -> None:
    """CUDA_VISIBLE_DEVICES by index, by UUID, none; unknown names end the list as in CUDA."""
    gpus = parse_nvml(text("nvidia-h100-sxm-x8", "nvml"))
    first, second = gpus.devices
    assert visible_devices(replace(gpus, visible="1")) == (second,)
    assert visible_devices(replace(gpus, visible="1,0")) == (second, first)
    assert visible_devices(replace(gpus, visible=first.uuid)) == (first,)
    assert visible_devices(replace(gpus, visible="0,7,1")) == (first,)
    assert visible_devices(replace(gpus, visible="")) == ()
    assert describe(replace(gpus, visible="")) is None


def test_unequal_cards_are_named_after_most_and_all_listed() -> None:
    """Nothing is hidden: the details list every kind."""
    cards = Gpus(devices=(Gpu(name="A", memory_bytes=1), Gpu(name="B", memory_bytes=2), Gpu(name="B", memory_bytes=2)))
    found = describe(cards)
    assert found is not None
    assert (found.name, found.count, found.memory_bytes) == ("B", 3, 5)
    assert found.details["devices"] == "1 x A, 2 x B"


def test_links_that_only_some_have_are_no_nvlink() -> None:
    """A tensor-parallel group is as fast as its slowest pair."""
    said = Gpus(devices=(Gpu(name="A", nvlinks=12, bus="1"), Gpu(name="A", nvlinks=0, bus="2")))
    found = describe(said)
    assert found is not None
    assert found.interconnect == "pcie"


@pytest.mark.parametrize("garbage", ["", "not json", "[]", "{}", '{"devices": [3, {}]}', "GPU 00000000:01:00.0\n"])
def test_garbage_is_no_gpu(garbage: str) -> None:
    """The machine is then a CPU."""
    assert parse_nvml(garbage).devices == ()
    assert parse_nvidia_smi(garbage).devices == ()


def test_nvidia_smi_stands_in_for_nvml() -> None:
    """Where the binding is missing, the same machine is found."""
    readings = read_recording(RECORDINGS / "nvidia-rtx-4090").readings
    found = understand("linux", readings)
    assert (found.kind, found.name) == ("nvidia", "NVIDIA GeForce RTX 4090")


def test_an_engine_without_cuda_sees_the_processor() -> None:
    """A CPU build of an engine on a GPU machine is a CPU worker."""
    readings = read_recording(RECORDINGS / "nvidia-h100-sxm-x8").readings
    assert understand("linux", readings, gpu=False).kind == "cpu"
