"""How llama.cpp is built for a machine: where it computes, with which options, and what is missing for it. Pure.

Options as in llama.cpp's own build guide (docs/build.md): GGML_METAL, GGML_CUDA, GGML_HIP, GGML_VULKAN.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from protos.contract.locks import only, read_lock
from protos.contract.worker import Hardware
from workers.installing.toolbox import Toolbox

PACKAGE = "llama-cpp-python"
COMMON = ("-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF", "-DGGML_NATIVE=ON")

TRIM = Path(__file__).with_name("llama_trim.cmake")
"""What is changed of its build."""
KERNEL = TRIM.with_name("q8_0_vnni.cpp")
"""What that adds."""

KEY_CHARS = 32


class Backend(StrEnum):
    """Where it computes."""

    METAL = "metal"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something the build cannot go without, and the command that installs it."""

    what: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaPlan:
    """One build. ``notes``: what its owner should know before it starts."""

    backend: Backend
    reason: str
    options: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()
    key: str = ""  # of all that decides where the result runs; equal for machines alike

    @property
    def about(self) -> str:
        """In a few words."""
        return f"llama.cpp for {self.reason}"


def plan(hardware: Hardware, tools: Toolbox, wanted: Backend | None = None, more: tuple[str, ...] = ()) -> LlamaPlan:
    """For this hardware with these tools. ``wanted``: whatever the hardware is; ``more``: its owner's own options."""
    backend, reason = (wanted, f"{wanted}, as asked") if wanted else _backend(hardware, tools)
    options = (*COMMON, *_options(backend, hardware), *more)
    return LlamaPlan(
        backend=backend,
        reason=reason,
        options=options,
        environment=_environment(backend, tools),
        missing=tuple(_missing(backend, tools)),
        notes=tuple(_notes(tools)),
        key=_key(options, tools),
    )


def _backend(hardware: Hardware, tools: Toolbox) -> tuple[Backend, str]:
    vulkan = bool(tools.has("glslc")) and tools.vulkan_headers
    if tools.system == "darwin" and tools.machine == "arm64":
        return Backend.METAL, f"{hardware.name or 'this Mac'} by Metal"
    for kind, backend, program in (("nvidia", Backend.CUDA, "nvcc"), ("amd", Backend.ROCM, "hipcc")):
        if hardware.kind == kind:
            if vulkan and not tools.has(program):
                return Backend.VULKAN, f"{hardware.name} by Vulkan, since {program} is not here"
            return backend, f"{hardware.name} by {backend.upper() if kind == 'nvidia' else 'ROCm'}"
    return Backend.CPU, f"the processor ({hardware.name or tools.machine})"


def _options(backend: Backend, hardware: Hardware) -> Iterator[str]:
    if backend is Backend.METAL:
        yield "-DGGML_METAL=ON"
    elif backend is Backend.CUDA:
        yield "-DGGML_CUDA=ON"
        if capability := hardware.compute_capability.replace(
            ".", ""
        ):  # for the card that is here: minutes, not an hour
            yield f"-DCMAKE_CUDA_ARCHITECTURES={capability}"
    elif backend is Backend.ROCM:
        yield "-DGGML_HIP=ON"
        if target := hardware.details.get("gfx") or hardware.details.get("target"):
            yield f"-DAMDGPU_TARGETS={target}"
    elif backend is Backend.VULKAN:
        yield "-DGGML_VULKAN=ON"


def _environment(backend: Backend, tools: Toolbox) -> dict[str, str]:
    if backend is Backend.CUDA and (nvcc := tools.has("nvcc")):
        return {"CUDACXX": nvcc}
    if backend is Backend.ROCM and (hipcc := tools.has("hipcc")):
        root = hipcc.removesuffix("/bin/hipcc")
        return {"HIP_PATH": root, "HIPCXX": f"{root}/llvm/bin/clang"}
    return {}


_COMPILER = {"dnf": "gcc-c++", "zypper": "gcc-c++", "pacman": "gcc"}


def _missing(backend: Backend, tools: Toolbox) -> Iterator[Missing]:
    if tools.system == "darwin" and not tools.xcode_tools:
        yield Missing(what="Xcode's command line tools", command="xcode-select --install")
    elif tools.system != "darwin" and not tools.has("c++", "g++", "clang++"):
        yield Missing(what="a C++ compiler", command=_install(tools, _COMPILER, "g++"))
    if backend is Backend.CUDA and not tools.has("nvcc"):
        names = {"pacman": "cuda", "dnf": "cuda-toolkit", "zypper": "cuda-toolkit"}
        yield Missing(what="the CUDA toolkit (nvcc)", command=_install(tools, names, "nvidia-cuda-toolkit"))
    if backend is Backend.ROCM and not tools.has("hipcc"):
        names = {"pacman": "rocm-hip-sdk", "dnf": "rocm-hip-devel"}
        yield Missing(what="ROCm's HIP compiler (hipcc)", command=_install(tools, names, "hipcc libhipblas-dev"))
    if backend is Backend.VULKAN and not (tools.has("glslc") and tools.vulkan_headers):
        names = {"pacman": "vulkan-headers shaderc", "dnf": "vulkan-headers glslc", "brew": "vulkan-headers shaderc"}
        yield Missing(what="Vulkan's headers and glslc", command=_install(tools, names, "libvulkan-dev glslc"))


def _notes(tools: Toolbox) -> Iterator[str]:
    if not tools.has("cmake"):
        command = _install(tools, {}, "cmake")
        yield f"CMake is not here: this build takes one from the package index for itself (or: {command})"


def _install(tools: Toolbox, names: dict[str, str], otherwise: str) -> str:
    """The command of this machine's package manager."""
    if tools.system == "darwin":
        return f"brew install {names.get('brew', otherwise)}"
    commands = {
        "apt-get": "sudo apt-get install",
        "dnf": "sudo dnf install",
        "pacman": "sudo pacman -S",
        "zypper": "sudo zypper install",
    }
    manager = next((one for one in commands if tools.has(one)), "")
    if not manager:
        return f"install {otherwise} as this system does it"
    return f"{commands[manager]} {names.get(manager, otherwise)}"


def _key(options: tuple[str, ...], tools: Toolbox) -> str:
    """Source, options, system, C library and processor: a build runs where all of them are the same."""
    ours = (file.read_text(encoding="utf-8") for file in (TRIM, KERNEL))
    source = only(read_lock("llama"), PACKAGE), *ours
    parts = (*source, *options, tools.system, tools.machine, tools.libc, tools.processor)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:KEY_CHARS]
