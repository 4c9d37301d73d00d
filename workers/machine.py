"""What any machine can say about itself without knowing its accelerators: processor and memory."""

import os
import platform
from pathlib import Path

import psutil

from workers.facts import Hardware


def this_machine() -> Hardware:
    """The processor as the system names it, its cores, and the memory that is there and free to take."""
    memory = psutil.virtual_memory()
    return Hardware(
        kind="cpu",
        name=_processor_name(),
        memory_bytes=memory.total,
        usable_memory_bytes=memory.available,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
