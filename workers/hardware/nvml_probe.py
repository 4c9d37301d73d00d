"""Asks NVML for every GPU and prints what it says as JSON. A program: a driver that hangs or crashes ends here.

What a device does not support is null, as NVML says. Serial numbers are not asked for.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

MAX_LINKS = 18
"""NVLinks of one GPU: NVML_NVLINK_MAX_LINKS."""


def main() -> int:
    """Print driver and devices, or one line on stderr saying why not."""
    try:
        import pynvml
    except ImportError as error:
        print(f"nvidia-ml-py is not installed ({error})", file=sys.stderr)  # noqa: T201 - a program
        return 1
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        print(f"NVML: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    try:
        count = pynvml.nvmlDeviceGetCount()
        said = {
            "driver": _said(pynvml, pynvml.nvmlSystemGetDriverVersion),
            "cuda": _said(pynvml, pynvml.nvmlSystemGetCudaDriverVersion_v2),
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "devices": [_device(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)],
        }
    finally:
        pynvml.nvmlShutdown()
    print(json.dumps(said))  # noqa: T201 - a program
    return 0


def _device(nvml: Any, handle: Any) -> dict[str, Any]:
    memory = _said(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    pci = _said(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    mig = _said(nvml, nvml.nvmlDeviceGetMigMode, handle)
    limit = _said(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return {
        "name": _said(nvml, nvml.nvmlDeviceGetName, handle),
        "uuid": _said(nvml, nvml.nvmlDeviceGetUUID, handle),
        "memory_total": memory.total if memory is not None else None,
        "memory_free": memory.free if memory is not None else None,
        "compute_capability": _said(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle),
        "cuda_cores": _said(nvml, nvml.nvmlDeviceGetNumGpuCores, handle),
        "board_part_number": _said(nvml, nvml.nvmlDeviceGetBoardPartNumber, handle),
        "bus": _text(pci.busId) if pci is not None else None,
        "pcie_generation": _said(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        "pcie_width": _said(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        "power_limit_w": limit / 1000.0 if limit is not None else None,
        "mig": bool(mig[0]) if mig is not None else None,
        "nvlinks": _links(nvml, handle),
    }


def _links(nvml: Any, handle: Any) -> int | None:
    """Active NVLinks; None where the GPU has none."""
    states = [_said(nvml, nvml.nvmlDeviceGetNvLinkState, handle, link) for link in range(MAX_LINKS)]
    known = [state for state in states if state is not None]
    return sum(state == nvml.NVML_FEATURE_ENABLED for state in known) if known else None


def _said(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    try:
        answer = ask(*arguments)
    except nvml.NVMLError:
        return None  # not supported by this device or driver
    return _text(answer)


def _text(answer: Any) -> Any:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


if __name__ == "__main__":
    sys.exit(main())
