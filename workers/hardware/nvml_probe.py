"""Asks NVML for every GPU and prints what it says as JSON. A program: a driver that hangs or crashes ends here.

What a device does not support is null, as NVML says; of its memory the reason is kept, since a container that may not
ask and a chip that has none of its own are different machines. Serial numbers are not asked for.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

MAX_LINKS = 18
"""NVLinks of one GPU: NVML_NVLINK_MAX_LINKS."""
MAX_SLICES = 16
"""MIG slices of one GPU that are asked for; cards have up to seven."""


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
        print(json.dumps(report(pynvml)))  # noqa: T201 - a program
    finally:
        pynvml.nvmlShutdown()
    return 0


def report(nvml: Any) -> dict[str, Any]:
    """What the initialised library says of driver and devices."""
    count = nvml.nvmlDeviceGetCount()
    return {
        "driver": _said(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda": _said(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "devices": [_device(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)],
    }


def _device(nvml: Any, handle: Any) -> dict[str, Any]:
    pci = _said(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    mig = _said(nvml, nvml.nvmlDeviceGetMigMode, handle)
    limit = _said(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return {
        "name": _said(nvml, nvml.nvmlDeviceGetName, handle),
        "uuid": _said(nvml, nvml.nvmlDeviceGetUUID, handle),
        **_memory(nvml, handle),
        "compute_capability": _said(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle),
        "cuda_cores": _said(nvml, nvml.nvmlDeviceGetNumGpuCores, handle),
        "board_part_number": _said(nvml, nvml.nvmlDeviceGetBoardPartNumber, handle),
        "bus": _text(pci.busId) if pci is not None else None,
        "pcie_generation": _said(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        "pcie_width": _said(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        "power_limit_w": limit / 1000.0 if limit is not None else None,
        "mig": bool(mig[0]) if mig is not None else None,
        "slices": _slices(nvml, handle) if mig is not None and mig[0] else [],
        "nvlinks": _links(nvml, handle),
    }


def _memory(nvml: Any, handle: Any) -> dict[str, Any]:
    """Total and free, or why not: "Not Supported" where memory is the host's, "Insufficient Permissions" in a
    container that was given a slice and may not look at the card.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        return {"memory_total": None, "memory_free": None, "memory_error": str(error)}
    return {"memory_total": memory.total, "memory_free": memory.free, "memory_error": None}


def _slices(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    """The MIG slices of a card, each a device of its own; none where they may not be listed."""
    most = _said(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = []
    for index in range(min(most, MAX_SLICES)):
        part = _said(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if part is None:
            continue
        attributes = _said(nvml, nvml.nvmlDeviceGetAttributes, part)
        found.append(
            {
                "name": _said(nvml, nvml.nvmlDeviceGetName, part),
                "uuid": _said(nvml, nvml.nvmlDeviceGetUUID, part),
                **_memory(nvml, part),
                "multiprocessors": attributes.multiprocessorCount if attributes is not None else None,
            }
        )
    return found


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
