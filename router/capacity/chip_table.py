"""Chips with their bandwidth, compute and memory. Bandwidths are FACTS.md's unless the row says otherwise.

Sources: *vendor*: the vendor's data sheet; *llmfit*: llmfit ``hardware.rs``, which collects those. Compute is the
dense 16-bit figure of the data sheet (NVIDIA tensor cores with fp32 accumulation; Apple: GPU cores x clock x 256
operations, as philipturner/metal-benchmarks lists it); it prices prefill until a benchmark replaces it.
"""

from dataclasses import dataclass
from enum import StrEnum


class MemoryKind(StrEnum):
    """Decides which share of the bandwidth decode reaches (``router.capacity.constants``)."""

    UNIFIED = "unified"  # LPDDR shared with the processor
    GDDR = "gddr"
    HBM = "hbm"
    DDR = "ddr"  # a processor's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator, or one machine's processor. ``memory_bytes`` 0: sold with several sizes."""

    name: str
    kind: str  # "apple", "nvidia", "amd", "cpu": as workers report it
    memory_kind: MemoryKind
    bandwidth_bytes_per_s: float
    compute_flops: float
    memory_bytes: float = 0.0
    gpu_cores: int = 0
    aliases: tuple[str, ...] = ()
    efficiency: float = 0.0  # share of the bandwidth llama.cpp's decode reaches; 0: that of its memory kind
    native_fp8: bool = False
    source: str = "vendor, llmfit"


def _apple(name: str, gb_s: float, tflops: float, cores: int, source: str = "vendor, llmfit") -> Chip:
    return Chip(
        name=name,
        kind="apple",
        memory_kind=MemoryKind.UNIFIED,
        bandwidth_bytes_per_s=gb_s * 1e9,
        compute_flops=tflops * 1e12,
        gpu_cores=cores,
        source=source,
    )


def _nvidia(
    name: str,
    gb_s: float,
    tflops: float,
    memory_gb: float,
    memory_kind: MemoryKind = MemoryKind.GDDR,
    *,
    aliases: tuple[str, ...] = (),
    efficiency: float = 0.0,
    native_fp8: bool = False,
    source: str = "vendor, llmfit",
) -> Chip:
    return Chip(
        name=name,
        kind="nvidia",
        memory_kind=memory_kind,
        bandwidth_bytes_per_s=gb_s * 1e9,
        compute_flops=tflops * 1e12,
        memory_bytes=memory_gb * 2**30,
        aliases=aliases,
        efficiency=efficiency,
        native_fp8=native_fp8,
        source=source,
    )


_HBM = MemoryKind.HBM
_LLAMA_CPP = "vendor, llmfit; efficiency: llama.cpp, May 2024 (FACTS.md, decode speed)"
_DATA_SHEET = "vendor data sheet"
_LAPTOP = "vendor data sheet, at the highest power it is sold with"

_APPLE = (
    _apple("M1", 68, 2.6, 8),
    _apple("M1 Pro", 200, 5.2, 16),
    _apple("M1 Max", 400, 10.4, 32),
    _apple("M1 Ultra", 800, 20.8, 64),
    _apple("M2", 100, 3.6, 10),
    _apple("M2 Pro", 200, 6.8, 19),
    _apple("M2 Max", 400, 13.6, 38),
    _apple("M2 Ultra", 800, 27.2, 76),
    _apple("M3", 100, 4.1, 10),
    _apple("M3 Pro", 150, 7.4, 18),
    _apple("M3 Max", 300, 10.6, 30),
    _apple("M3 Max", 400, 14.2, 40),
    _apple("M3 Ultra", 819, 28.4, 80),
    _apple("M4", 120, 4.6, 10),
    _apple("M4 Pro", 273, 9.2, 20),
    _apple("M4 Max", 410, 14.7, 32),
    _apple("M4 Max", 546, 18.4, 40),
    _apple("M5", 153.6, 4.7, 10, "vendor; its matrix units are not counted: prefill will be faster"),
    _apple("M5 Pro", 307, 9.4, 20, "vendor; its matrix units are not counted: prefill will be faster"),
    _apple("M5 Max", 614, 18.8, 40, "vendor; its matrix units are not counted: prefill will be faster"),
)

_NVIDIA = (
    _nvidia("H100 PCIe", 2000, 756, 80, _HBM, native_fp8=True),
    _nvidia("H100 SXM", 3350, 989, 80, _HBM, aliases=("H100", "H100 80GB HBM3", "H100 SXM5"), native_fp8=True),
    _nvidia("H100 NVL", 3938, 835, 94, _HBM, native_fp8=True, source=_DATA_SHEET),
    _nvidia("H200", 4800, 989, 141, _HBM, aliases=("H200 SXM", "H200 NVL"), native_fp8=True),
    _nvidia("H20", 4000, 148, 96, _HBM, native_fp8=True, source=_DATA_SHEET),
    _nvidia("GH200", 4000, 989, 96, _HBM, aliases=("GH200 480GB", "GH200 120GB"), native_fp8=True, source=_DATA_SHEET),
    _nvidia("B200", 8000, 2250, 180, _HBM, native_fp8=True, source=_DATA_SHEET),
    _nvidia("A100 40GB", 1555, 312, 40, _HBM, aliases=("A100", "A100 SXM4 40GB", "A100 PCIe 40GB"), efficiency=0.50,
            source=_LLAMA_CPP),
    _nvidia("A100 80GB PCIe", 1935, 312, 80, _HBM, aliases=("A100 PCIe 80GB",), efficiency=0.50, source=_LLAMA_CPP),
    _nvidia("A100 80GB SXM", 2039, 312, 80, _HBM, aliases=("A100 SXM4 80GB", "A100 80GB", "A100 SXM"),
            efficiency=0.50, source=_LLAMA_CPP),
    _nvidia("V100", 900, 125, 16, _HBM, aliases=("V100 SXM2", "V100 PCIe", "V100 SXM2 16GB", "V100 PCIe 16GB"),
            source=_DATA_SHEET),
    _nvidia("V100 32GB", 900, 125, 32, _HBM, aliases=("V100 SXM2 32GB", "V100 PCIe 32GB", "V100S PCIe 32GB"),
            source=_DATA_SHEET),
    _nvidia("A30", 933, 165, 24, _HBM, source=_DATA_SHEET),
    _nvidia("L40S", 864, 362, 48, efficiency=0.91, native_fp8=True, source=_LLAMA_CPP),
    _nvidia("L40", 864, 181, 48, native_fp8=True, source=_DATA_SHEET),
    _nvidia("L4", 300, 121, 24, native_fp8=True, source=_DATA_SHEET),
    _nvidia("T4", 320, 65, 16, source=_DATA_SHEET),
    _nvidia("A40", 696, 150, 48, efficiency=0.88, source=_LLAMA_CPP),
    _nvidia("A10", 600, 125, 24, source=_DATA_SHEET),
    _nvidia("A10G", 600, 70, 24, source=_DATA_SHEET),
    _nvidia("RTX A6000", 768, 155, 48, aliases=("A6000",)),
    _nvidia("RTX 6000 Ada", 960, 364, 48, native_fp8=True),
    _nvidia("RTX PRO 6000", 1792, 503, 96, native_fp8=True, source=_DATA_SHEET,
            aliases=("RTX PRO 6000 Blackwell", "RTX PRO 6000 Blackwell Workstation Edition",
                     "RTX PRO 6000 Blackwell Max-Q Workstation Edition")),
    _nvidia("RTX PRO 6000 Server", 1597, 503, 96, native_fp8=True, source=_DATA_SHEET,
            aliases=("RTX PRO 6000 Blackwell Server Edition",)),
    _nvidia("RTX 3060", 360, 25, 12, source=_DATA_SHEET),
    _nvidia("RTX 3070", 448, 40, 8, source=_DATA_SHEET),
    _nvidia("RTX 3080", 760, 60, 10),
    _nvidia("RTX 3090", 936, 71, 24),
    _nvidia("RTX 3090 Ti", 1008, 80, 24, source=_DATA_SHEET),
    _nvidia("RTX 4060", 272, 30, 8, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 4060 Ti", 288, 44, 16, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 4070", 504, 58, 12, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 4070 Ti", 504, 80, 12, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 4080", 717, 98, 16, native_fp8=True),
    _nvidia("RTX 4080 SUPER", 736, 104, 16, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 4090", 1008, 165, 24, native_fp8=True),
    _nvidia("RTX 5070", 672, 62, 12, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 5070 Ti", 896, 88, 16, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 5080", 960, 113, 16, native_fp8=True, source=_DATA_SHEET),
    _nvidia("RTX 5090", 1792, 210, 32, native_fp8=True),
    _nvidia("RTX 3080 Laptop", 448, 38, 16, source=_LAPTOP),
    _nvidia("RTX 4060 Laptop", 256, 23, 8, native_fp8=True, source=_LAPTOP),
    _nvidia("RTX 4070 Laptop", 256, 31, 8, native_fp8=True, source=_LAPTOP),
    _nvidia("RTX 4080 Laptop", 432, 49, 12, native_fp8=True, source=_LAPTOP),
    _nvidia("RTX 4090 Laptop", 576, 66, 16, native_fp8=True, source=_LAPTOP),
    _nvidia("RTX 5080 Laptop", 896, 46, 16, native_fp8=True, source=_LAPTOP),
    _nvidia("RTX 5090 Laptop", 896, 62, 24, native_fp8=True, source=_LAPTOP),
    _nvidia("DGX Spark", 273, 62, 128, MemoryKind.UNIFIED, aliases=("GB10",), native_fp8=True, source=_DATA_SHEET),
    _nvidia("Jetson AGX Orin", 204.8, 43, 64, MemoryKind.UNIFIED, aliases=("AGX Orin", "Orin nvgpu", "Orin"),
            source=_DATA_SHEET),
    _nvidia("Jetson Orin NX", 102.4, 20, 16, MemoryKind.UNIFIED, aliases=("Orin NX", "Orin nvgpu", "Orin"),
            source=_DATA_SHEET),
    _nvidia("Jetson Orin Nano", 68, 10, 8, MemoryKind.UNIFIED, aliases=("Orin Nano", "Orin nvgpu", "Orin"),
            source=_DATA_SHEET),
    _nvidia("Jetson AGX Thor", 273, 129, 128, MemoryKind.UNIFIED, aliases=("AGX Thor", "Thor"), native_fp8=True,
            source=_DATA_SHEET),
)  # fmt: skip


def _amd(
    name: str, gb_s: float, tflops: float, memory_gb: float, memory_kind: MemoryKind = MemoryKind.GDDR, *,
    aliases: tuple[str, ...] = (), native_fp8: bool = False, source: str = "vendor, llmfit",
) -> Chip:  # fmt: skip
    return Chip(
        name=name,
        kind="amd",
        memory_kind=memory_kind,
        bandwidth_bytes_per_s=gb_s * 1e9,
        compute_flops=tflops * 1e12,
        memory_bytes=memory_gb * 2**30,
        aliases=aliases,
        native_fp8=native_fp8,
        source=source,
    )


_AMD = (
    _amd("MI210", 1638, 181, 64, _HBM, source=_DATA_SHEET),
    _amd("MI250X", 3277, 383, 128, _HBM, aliases=("MI250",), source=_DATA_SHEET),
    _amd("MI300X", 5300, 1307, 192, _HBM, native_fp8=True),
    _amd("MI325X", 6000, 1307, 256, _HBM, native_fp8=True, source=_DATA_SHEET),
    _amd("RX 6800 XT", 512, 41, 16, source=_DATA_SHEET),
    _amd("RX 6900 XT", 512, 46, 16, source=_DATA_SHEET),
    _amd("RX 7800 XT", 624, 75, 16, source=_DATA_SHEET),
    _amd("RX 7900 GRE", 576, 92, 16, source=_DATA_SHEET),
    _amd("RX 7900 XT", 800, 103, 20, source=_DATA_SHEET),
    _amd("RX 7900 XTX", 960, 123, 24),
    _amd("RX 9070", 640, 145, 16, native_fp8=True, source=_DATA_SHEET),
    _amd("RX 9070 XT", 640, 195, 16, native_fp8=True, source=_DATA_SHEET),
    _amd("PRO W7900", 864, 123, 48, aliases=("W7900",), source=_DATA_SHEET),
    _amd("AI PRO R9700", 640, 191, 32, aliases=("R9700",), native_fp8=True, source=_DATA_SHEET),
    _amd("Strix Halo", 256, 59, 128, MemoryKind.UNIFIED, source="vendor: 256 bit of LPDDR5X-8000",
         aliases=("Ryzen AI Max 395", "Ryzen AI Max PRO 395", "8060S", "Ryzen AI Max 395 w 8060S",
                  "Ryzen AI Max PRO 395 w 8060S", "Ryzen AI Max")),
)  # fmt: skip

CHIPS: tuple[Chip, ...] = _APPLE + _NVIDIA + _AMD
"""No M4 Ultra exists. Of one name, variants differ in GPU cores or memory."""
