"""Parsers of what machines print never raise, and never report more that can be taken than there is."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.hardware.detect import understand
from workers.hardware.probes import Reading

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
NVML = ("name", "uuid", "memory_total", "memory_free", "memory_error", "compute_capability", "cuda_cores", "bus",
        "board_part_number", "pcie_generation", "pcie_width", "power_limit_w", "mig", "slices", "nvlinks",
        "multiprocessors")  # fmt: skip
DEVICES = st.dictionaries(st.sampled_from(NVML), VALUES | st.lists(st.dictionaries(st.sampled_from(NVML), VALUES)))
VISIBLE = st.none() | st.sampled_from(["", "0", "7", "MIG-x", "GPU-", "MIG-GPU-1/2/3", "0,MIG-1", "\x00", "-1"])
AMD = ("vendor", "device", "revision", "uevent", "product_name", "mem_info_vram_total", "mem_info_vram_used",
       "mem_info_gtt_total", "mem_info_gtt_used")  # fmt: skip


def found(**outputs: str) -> Any:
    return understand("linux", tuple(Reading(name=name, asked="", output=text) for name, text in outputs.items()))


@given(st.lists(DEVICES, max_size=3), VISIBLE, VALUES)
def test_whatever_nvml_is_said_to_say(devices: list[Any], visible: str | None, cuda: Any) -> None:
    """Types, missing fields, slices of slices."""
    said = json.dumps({"devices": devices, "visible": visible, "cuda": cuda})
    machine = found(nvml=said, meminfo="MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    assert machine.kind in ("cpu", "nvidia")
    assert machine.memory_bytes >= 0
    assert machine.usable_memory_bytes >= 0
    assert machine.count >= 1


@given(st.dictionaries(st.sampled_from(AMD), st.text(max_size=12) | st.integers(0, 2**64).map(str)), VALUES)
def test_whatever_sys_and_amd_smi_say(files: dict[str, str], smi: Any) -> None:
    """A card only where the maker is AMD."""
    sysfs = "\n".join(f"==> /sys/class/drm/card0/device/{name} <==\n{text}" for name, text in files.items())
    asic = {"gpu_data": [{"asic": {"market_name": smi}, "bus": smi, "vram": {"size": {"value": smi}}}]}
    machine = found(amd_sysfs=sysfs, amd_smi=json.dumps(asic), meminfo="MemTotal: 1000 kB\n")
    assert machine.kind in ("cpu", "amd")
    assert 0 <= machine.usable_memory_bytes <= max(machine.memory_bytes, 1000 * 1024)


@given(st.text(max_size=200))
def test_whatever_text(text: str) -> None:
    """As the output of every probe at once."""
    names = ("cpuinfo", "meminfo", "status", "cgroup", "nvml", "nvidia_smi", "amd_sysfs", "amd_smi", "amdgpu_ids")
    found(**dict.fromkeys(names, text))
