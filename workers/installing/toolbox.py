"""What tools this machine has to build with. Facts only; ``llama_plan`` reasons about them."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMPILERS = ("c++", "g++", "clang++")
PACKAGE_MANAGERS = ("brew", "apt-get", "dnf", "pacman", "zypper")
PROGRAMS = (*COMPILERS, *PACKAGE_MANAGERS, "cmake", "ninja", "nvcc", "hipcc", "glslc")
ELSEWHERE = {
    "nvcc": ("/usr/local/cuda/bin/nvcc",),
    "hipcc": ("/opt/rocm/bin/hipcc",),
    "cmake": ("/opt/homebrew/bin/cmake", "/usr/local/bin/cmake"),
}
"""Where installers put programs without adding the folder to PATH."""

VULKAN_HEADERS = ("/usr/include/vulkan/vulkan.h", "/usr/local/include/vulkan/vulkan.h")
COMMAND_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """``programs``: name → path. ``processor``: what a build for this very processor depends on."""

    system: str  # "darwin", "linux"
    machine: str  # "arm64", "x86_64"
    programs: dict[str, str] = field(default_factory=dict)
    vulkan_headers: bool = False
    xcode_tools: bool = False  # macOS: the command line tools
    processor: str = ""
    libc: str = ""
    compiler: str = ""  # its first line about itself

    def has(self, *names: str) -> str:
        """The first of these programs that is here; empty: none."""
        return next((self.programs[name] for name in names if name in self.programs), "")


def look() -> Toolbox:
    """Those of this machine. Blocks for a moment."""
    programs = {name: found for name in PROGRAMS if (found := _find(name))}
    compiler = next((programs[one] for one in COMPILERS if one in programs), "")
    return Toolbox(
        system="linux" if sys.platform.startswith("linux") else sys.platform,
        machine=platform.machine(),
        programs=programs,
        vulkan_headers=any(Path(one).exists() for one in VULKAN_HEADERS),
        xcode_tools=sys.platform == "darwin" and bool(_said(("xcode-select", "-p"))),
        processor=_processor(),
        libc=" ".join(platform.libc_ver()).strip(),
        compiler=_said((compiler, "--version")) if compiler else "",
    )


def _find(name: str) -> str:
    return shutil.which(name) or next((one for one in ELSEWHERE.get(name, ()) if Path(one).exists()), "")


def _processor() -> str:
    if sys.platform == "darwin":
        return _said(("sysctl", "-n", "machdep.cpu.brand_string"))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join(sorted(told.partition(":")[2].split()))


def _said(command: Sequence[str]) -> str:
    """The first line; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.splitlines() or [""])[0] if done.returncode == 0 else ""
