"""What this process may take of its system: sockets and files, and time for its memory."""

import ctypes
import gc
import resource
import sys

ENOUGH = 65_536
"""More would only make some systems slow, and no bound of the router's own lets it have so many."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's names in mallopt(3)."""

LARGE_BYTES = 64 * 1024
"""A block of memory from this size on goes back to the system when it is freed."""

NEVER = 2**30

COLLECT_AFTER = (5_000, 5, NEVER)
"""New objects before the youngest are looked through, and how often before the older ones: 25,000 objects in one turn,
20 ms. Requests leave little that only the collector finds, and Python's own 700 are the objects of a dozen requests.
All objects are looked through when ``telemetry.full_collections`` says so.
"""

RESERVED = 512
"""For what is no client's connection: workers, the store, logs, libraries."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit, for this process and all it starts; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return ENOUGH if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):  # macOS refuses more than its kernel's own limit
        return soft
    return most


def settle_heap() -> None:
    """Before serving: memory that was freed goes back to the system, and the collector has less to look at.

    glibc learns from large blocks that come and go to keep them, pieces of bodies lie between what lives for longer:
    200 bodies of 8 MB left 370 MB behind, most of it holes. A full collection held the event loop for a tenth of a
    second, most of it for modules that live as long as the process:
    what the program itself consists of is looked through once more and then left alone.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
            mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)
            mallopt(M_ARENA_MAX, 2)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def heap_is_settled() -> bool:
    """Whether ``settle_heap`` was called here."""
    return gc.get_threshold()[2] == NEVER


def most_connections(descriptors: int) -> int:
    """Clients' connections that fit so many descriptors."""
    return max(descriptors // 2, descriptors - RESERVED)
