"""What this process may take of its system: sockets and files, and time for its memory."""

import gc
import resource

ENOUGH = 65_536
"""More would only make some systems slow, and no bound of the router's own lets it have so many."""

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
    """What the program itself consists of is looked through once more and then left alone: a full collection held the
    event loop for a tenth of a second, most of it for modules that live as long as the process.
    """
    gc.collect()
    gc.freeze()


def most_connections(descriptors: int) -> int:
    """Clients' connections that fit so many descriptors."""
    return max(descriptors // 2, descriptors - RESERVED)
