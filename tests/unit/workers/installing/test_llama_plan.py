"""How llama.cpp is built, machine by machine: where it computes, what is missing, and who is alike."""

from dataclasses import replace

import pytest

from protos.contract.worker import Hardware
from workers.installing.llama_plan import Backend, LlamaPlan, plan
from workers.installing.provide import CannotProvide, refuse_if_missing
from workers.installing.toolbox import Toolbox, look

MAC = Toolbox(system="darwin", machine="arm64", xcode_tools=True, programs={"cmake": "/c"}, processor="Apple M4 Max")
BOX = Toolbox(
    system="linux",
    machine="x86_64",
    programs={one: f"/usr/bin/{one}" for one in ("cmake", "c++", "apt-get")},
    processor="avx2 fma",
    libc="glibc 2.36",
)
M4 = Hardware(kind="apple", name="Apple M4 Max")
RTX = Hardware(kind="nvidia", name="NVIDIA GeForce RTX 4090", compute_capability="8.9")
RADEON = Hardware(kind="amd", name="Radeon RX 7900 XTX", details={"gfx": "gfx1100"})
CPU = Hardware(kind="cpu", name="AMD EPYC")


def having(tools: Toolbox, *names: str, headers: bool = False) -> Toolbox:
    more = {one: f"/x/bin/{one}" for one in names}
    return replace(tools, programs={**tools.programs, **more}, vulkan_headers=headers)


@pytest.mark.parametrize(
    ("hardware", "tools", "backend", "options"),
    [
        (M4, MAC, Backend.METAL, {"-DGGML_METAL=ON"}),
        (RTX, having(BOX, "nvcc"), Backend.CUDA, {"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=89"}),
        (RTX, having(BOX, "glslc", headers=True), Backend.VULKAN, {"-DGGML_VULKAN=ON"}),
        (RTX, having(BOX, "glslc", "nvcc", headers=True), Backend.CUDA, {"-DGGML_CUDA=ON"}),
        (RADEON, having(BOX, "hipcc"), Backend.ROCM, {"-DGGML_HIP=ON", "-DAMDGPU_TARGETS=gfx1100"}),
        (RADEON, having(BOX, "glslc", headers=True), Backend.VULKAN, {"-DGGML_VULKAN=ON"}),
        (CPU, BOX, Backend.CPU, {"-DGGML_NATIVE=ON"}),
        (CPU, replace(MAC, machine="x86_64"), Backend.CPU, {"-DGGML_NATIVE=ON"}),
    ],
)
def test_it_computes_where_the_machine_is_quickest_and_has_the_tools(
    hardware: Hardware, tools: Toolbox, backend: Backend, options: set[str]
) -> None:
    """Metal on a Mac, CUDA and ROCm where their compilers are, Vulkan in their place, else the processor."""
    found = plan(hardware, tools)
    assert found.backend is backend
    assert options <= set(found.options)
    assert found.missing == ()
    other = {"-DGGML_METAL=ON", "-DGGML_CUDA=ON", "-DGGML_HIP=ON", "-DGGML_VULKAN=ON"} - options
    assert not other & set(found.options)


@pytest.mark.parametrize(
    ("hardware", "tools", "commands"),
    [
        (M4, replace(MAC, xcode_tools=False), ["xcode-select --install"]),
        (RTX, BOX, ["sudo apt-get install nvidia-cuda-toolkit"]),
        (RADEON, BOX, ["sudo apt-get install hipcc libhipblas-dev"]),
        (CPU, Toolbox(system="linux", machine="x86_64", programs={"dnf": "/d"}), ["sudo dnf install gcc-c++"]),
        (CPU, Toolbox(system="linux", machine="x86_64", programs={"pacman": "/p"}), ["sudo pacman -S gcc"]),
        (CPU, Toolbox(system="linux", machine="x86_64"), ["install g++ as this system does it"]),
        (
            RTX,
            Toolbox(system="linux", machine="x86_64", programs={"apt-get": "/a"}),
            ["sudo apt-get install g++", "sudo apt-get install nvidia-cuda-toolkit"],
        ),
    ],
)
def test_all_that_is_missing_is_named_at_once_with_its_command(
    hardware: Hardware, tools: Toolbox, commands: list[str]
) -> None:
    """Before anything is downloaded or compiled."""
    found = plan(hardware, tools)
    assert [one.command for one in found.missing] == commands
    with pytest.raises(CannotProvide) as refused:
        refuse_if_missing(found)
    for one in found.missing:
        assert f"{one.what} is missing: {one.command}" in str(refused.value)
    assert ("--backend cpu" in str(refused.value)) == (found.backend is not Backend.CPU)


def test_cmake_is_no_reason_to_stop() -> None:
    """The build takes one from the package index for itself; its owner hears of it."""
    found = plan(CPU, replace(BOX, programs={"c++": "/c", "apt-get": "/a"}))
    assert found.missing == ()
    assert "sudo apt-get install cmake" in found.notes[0]
    assert plan(CPU, BOX).notes == ()


def test_an_owner_chooses_where_it_computes() -> None:
    """A card without its toolkit can be left out, and Vulkan be asked for."""
    assert plan(RTX, BOX, Backend.CPU).missing == ()
    vulkan = plan(CPU, BOX, Backend.VULKAN)
    assert [one.command for one in vulkan.missing] == ["sudo apt-get install libvulkan-dev glslc"]
    assert "-DGGML_RPC=ON" in plan(CPU, BOX, more=("-DGGML_RPC=ON",)).options


def test_alike_are_those_whose_build_would_be_the_same() -> None:
    """Another compiler or name is no difference; another processor, C library, card, system or option is."""
    mine = plan(RTX, having(BOX, "nvcc"))
    alike = replace(having(BOX, "nvcc", "ninja"), compiler="another")
    assert plan(replace(RTX, name="NVIDIA RTX 6000 Ada"), alike).key == mine.key
    others: list[LlamaPlan] = [
        plan(RTX, having(replace(BOX, processor="avx2 fma avx512f"), "nvcc")),
        plan(RTX, having(replace(BOX, libc="glibc 2.31"), "nvcc")),
        plan(replace(RTX, compute_capability="8.6"), having(BOX, "nvcc")),
        plan(RTX, having(replace(BOX, machine="aarch64"), "nvcc")),
        plan(RTX, BOX, Backend.CPU),
        plan(M4, MAC),
    ]
    keys = {one.key for one in others} | {mine.key}
    assert len(keys) == len(others) + 1


def test_this_machines_tools_are_found() -> None:
    """Whatever they are: a system, a machine and a processor there always are."""
    found = look()
    assert found.system
    assert found.machine
    assert found.processor
