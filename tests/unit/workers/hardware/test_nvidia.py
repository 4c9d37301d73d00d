"""NVIDIA GPUs, from NVML and from nvidia-smi: see recordings/*/recording.toml for where each output comes from."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from protos.contract.worker import Hardware
from workers.hardware.detect import understand, understood
from workers.hardware.nvidia import Gpu, Gpus, describe, parse_nvml, visible_devices
from workers.hardware.nvidia_smi import parse_nvidia_smi
from workers.hardware.nvml_probe import report
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
    assert found.details["devices_memory_bytes"] == "1, 2"


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


def recorded(name: str) -> Hardware:
    return understand("linux", read_recording(RECORDINGS / name).readings)


def test_of_a_card_that_is_cut_a_process_has_one_slice() -> None:
    """Its memory, its multiprocessors; the card itself is nobody's."""
    found = recorded("nvidia-a100-mig")
    assert (found.name, found.count) == ("NVIDIA A100-SXM4-40GB MIG", 1)
    assert found.memory_bytes == 19968 * MIB
    assert found.usable_memory_bytes == 19948 * MIB
    assert (found.cores, found.details["mig"]) == (42, "enabled")
    (card,) = parse_nvidia_smi(text("nvidia-a100-mig", "nvidia_smi")).devices
    assert (card.memory_bytes, card.uuid[:4], card.pcie_generation, len(card.slices)) == (40960 * MIB, "GPU-", 4, 2)


def test_a_slice_whose_memory_may_not_be_asked_is_of_unknown_size() -> None:
    """A container that was given one: the GPU is there, the host's memory is not taken for it, and why is said."""
    found = recorded("nvidia-h100-mig-container")
    assert (found.kind, found.name) == ("nvidia", "NVIDIA H100 80GB HBM3 MIG")
    assert (found.memory_bytes, found.usable_memory_bytes) == (0, 0)
    assert found.details["memory"] == "unknown: Insufficient Permissions"
    assert understood(found).memory_bytes == 0


def cut(visible: str | None) -> Gpus:
    """Two cards, the first cut in slices of two sizes, as NVML lists them."""
    slices = [
        {"name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "uuid": "MIG-aaaa-1", "memory_total": 20 << 30},
        {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "uuid": "MIG-bbbb-2", "memory_total": 5 << 30},
    ]
    card = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-1", "memory_total": 40 << 30, "mig": True, "slices": slices}
    whole = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-2", "memory_total": 40 << 30, "mig": False}
    return replace(parse_nvml(json.dumps({"devices": [card, whole]})), visible=visible)


@pytest.mark.parametrize(
    ("visible", "names", "gib"),
    [
        (None, ["NVIDIA A100-SXM4-40GB"], 40),
        ("MIG-aaaa-1", ["NVIDIA A100-SXM4-40GB MIG 3g.20gb"], 20),
        ("MIG-bbbb-2", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb"], 5),
        ("MIG-bbbb", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb"], 5),
        ("MIG-bbbb-2,MIG-aaaa-1", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb"], 5),
        ("0", ["NVIDIA A100-SXM4-40GB MIG 3g.20gb"], 20),
        ("GPU-1", ["NVIDIA A100-SXM4-40GB MIG 3g.20gb"], 20),
        ("1", ["NVIDIA A100-SXM4-40GB"], 40),
        ("MIG-cccc-3", ["NVIDIA A100-SXM4-40GB MIG"], 0),
        ("MIG-GPU-1/3/0", ["NVIDIA A100-SXM4-40GB MIG"], 0),
    ],
)
def test_slices_are_named_as_cuda_names_them(visible: str | None, names: list[str], gib: int) -> None:
    """By UUID, by the card's number or UUID; one nobody lists is of unknown size, never another one's."""
    devices = visible_devices(cut(visible))
    assert [one.name for one in devices] == names
    assert sum(one.memory_bytes for one in devices) == gib << 30


def test_slices_that_are_all_alike_need_no_list() -> None:
    """nvidia-smi tells no UUIDs."""
    gpus = replace(parse_nvidia_smi(text("nvidia-a100-mig", "nvidia_smi")), visible="MIG-whichever")
    (one,) = visible_devices(gpus)
    assert one.memory_bytes == 19968 * MIB


def test_a_box_with_one_memory_has_it_once() -> None:
    """GB10: NVML says not supported, the kernel tells; nothing beside it to offload to."""
    found = recorded("nvidia-gb10")
    assert (found.kind, found.name, found.count) == ("nvidia", "NVIDIA GB10", 1)
    assert found.memory_bytes == 127600748 * 1024
    assert found.usable_memory_bytes == 118566368 * 1024
    assert found.details["memory"] == "unified"
    assert "host_memory_bytes" not in found.details


@pytest.mark.parametrize("name", ["Orin (nvgpu)", "NVIDIA Thor", "Xavier (nvgpu)", "NVIDIA GB10", "NVIDIA N1X"])
def test_chips_without_memory_of_their_own_are_known_by_name(name: str) -> None:
    """Also one that tells a part of it (N1X)."""
    host = Hardware(kind="cpu", name="", memory_bytes=64 << 30, usable_memory_bytes=60 << 30)
    found = describe(Gpus(devices=(Gpu(name=name, memory_bytes=8 << 30, free_bytes=7 << 30),)), host)
    assert found is not None
    assert (found.memory_bytes, found.usable_memory_bytes) == (64 << 30, 60 << 30)


def test_a_superchip_has_memory_of_its_own() -> None:
    """GH200: HBM beside the processor's."""
    host = Hardware(kind="cpu", name="", memory_bytes=480 << 30, usable_memory_bytes=470 << 30)
    gpu = Gpu(name="NVIDIA GH200 480GB", memory_bytes=96 << 30, free_bytes=95 << 30)
    found = describe(Gpus(devices=(gpu,)), host)
    assert found is not None
    assert (found.memory_bytes, found.details.get("memory")) == (96 << 30, None)


def test_a_jetson_by_its_own_two_reports() -> None:
    """Its memory is the board's."""
    found = recorded("nvidia-jetson-orin")
    assert (found.kind, found.name, found.details["memory"]) == ("nvidia", "Orin (nvgpu)", "unified")
    assert found.memory_bytes == 7801405 * 1024


def test_a_laptop_says_so() -> None:
    """By name and form; its power limit is told."""
    found = recorded("nvidia-rtx-4070-laptop")
    assert (found.name, found.details["form_factor"]) == ("NVIDIA GeForce RTX 4070 Laptop GPU", "mobile")
    assert (found.memory_bytes, found.details["power_limit_w"]) == (8188 * MIB, "61")


@pytest.mark.parametrize(
    ("name", "profile"), [("GRID P40-24Q", "24Q"), ("NVIDIA A40-8Q", "8Q"), ("NVIDIA A100-40C", "40C")]
)
def test_a_virtual_card_names_its_profile(name: str, profile: str) -> None:
    """What else runs on the card is not known."""
    found = describe(Gpus(devices=(Gpu(name=name, memory_bytes=1, free_bytes=1),)))
    assert found is not None
    assert found.details["vgpu"] == profile


def test_one_card_that_does_not_tell_its_memory_makes_the_sum_unknown() -> None:
    """A part is not the whole."""
    found = describe(Gpus(devices=(Gpu(name="A", memory_bytes=1 << 30), Gpu(name="A", memory_error="Not Supported"))))
    assert found is not None
    assert (found.memory_bytes, found.details["memory"]) == (0, "unknown: Not Supported")


class Nvml:
    """A library with one card cut in two, as pynvml speaks; what it was not given is not supported."""

    NVML_FEATURE_ENABLED = 1

    class NVMLError(Exception):
        pass

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any) -> Any:
            answer = self.answers.get((name, *arguments))
            if answer is None:
                raise self.NVMLError("Insufficient Permissions" if "Memory" in name else "Not Supported")
            return answer

        return ask

    answers: ClassVar[dict[tuple[Any, ...], Any]] = {
        ("nvmlDeviceGetCount",): 1,
        ("nvmlSystemGetDriverVersion",): b"550.1",
        ("nvmlDeviceGetHandleByIndex", 0): "card",
        ("nvmlDeviceGetName", "card"): "NVIDIA A100-SXM4-40GB",
        ("nvmlDeviceGetMigMode", "card"): (1, 1),
        ("nvmlDeviceGetMaxMigDeviceCount", "card"): 7,
        ("nvmlDeviceGetMigDeviceHandleByIndex", "card", 1): "slice",
        ("nvmlDeviceGetName", "slice"): "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        ("nvmlDeviceGetUUID", "slice"): "MIG-1",
        ("nvmlDeviceGetMemoryInfo", "slice"): SimpleNamespace(total=20937965568, free=20917000000),
        ("nvmlDeviceGetAttributes", "slice"): SimpleNamespace(multiprocessorCount=42),
    }


def test_the_probe_lists_slices_and_keeps_the_reason_of_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints is what the parser reads."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    gpus = parse_nvml(json.dumps(report(Nvml())))
    (card,) = gpus.devices
    assert (card.memory_error, gpus.driver, gpus.visible) == ("Insufficient Permissions", "550.1", "MIG-1")
    found = describe(gpus)
    assert found is not None
    assert (found.name, found.memory_bytes, found.cores) == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20937965568, 42)
