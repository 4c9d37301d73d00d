"""What a processor computes, from what a worker reports of it: threads and vector extensions. Pure.

Peak = threads x clock x operations a cycle; prefill reaches ``COMPUTE_EFFICIENCY`` of it as on any other device. No
machine reports the clock it holds under load, so one stands for all: a figure for a processor is a guess within a
factor of two or so, until the join benchmark has measured it.
"""

from protos.contract.worker import Hardware

CLOCK_HZ = 3e9
"""What cores of servers and laptops hold while all of them compute; between 2.2 and 4.5 in data sheets."""

MAX_THREADS = 1024

_OPERATIONS_PER_CYCLE: tuple[tuple[str, float], ...] = (
    ("avx512f", 64.0),
    ("avx2", 32.0),
    ("avx", 16.0),
    ("asimd", 16.0),
    ("neon", 8.0),
)
"""32-bit lanes of two fused multiply-add units, two operations each (vendors' optimization guides): 16, 8 and 4 lanes;
plain AVX has no fused ones, NEON on 32-bit ARM one unit. Integer dot products do more at once; unpacking four and
eight bits to feed them takes what they gain."""


def processor_flops(hardware: Hardware) -> float:
    """Operations a second of the threads that an engine uses there; 0: too little was reported."""
    if hardware.kind != "cpu":
        return 0.0
    details = hardware.details
    vector = details.get("vector", "").split()
    per_cycle = next((operations for name, operations in _OPERATIONS_PER_CYCLE if name in vector), 0.0)
    return threads_of(hardware) * CLOCK_HZ * per_cycle


def threads_of(hardware: Hardware) -> int:
    """As told; else one for each core, as engines choose by themselves. Never more than there are cores."""
    details = hardware.details
    told, physical = _number(details.get("threads", "")), _number(details.get("physical_cores", ""))
    threads = told or physical or hardware.cores
    return min(threads, hardware.cores or threads, MAX_THREADS)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
