"""Which Allsorts this is, and the versions of the protocol that it speaks."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PROTOCOL_VERSION = 2
"""1: up to models' files. 2: files travel; a worker tells which it holds (FilesHeld, FetchProgress); a step's plain
text comes in columns (PlainDeltas), and what is ready together comes as one message (``following``)."""

JOINED_SINCE = 2
"""Peers of this protocol read steps in columns, and messages that others follow."""

OLDEST_PROTOCOL_VERSION = 1


def agreed_version(newest: int, oldest: int) -> int | None:
    """The newest version that both speak, given the peer's range; None when there is none.

    >>> agreed_version(newest=PROTOCOL_VERSION + 3, oldest=1) == PROTOCOL_VERSION
    True
    >>> agreed_version(newest=0, oldest=0)
    """
    both = min(PROTOCOL_VERSION, newest)
    return both if both >= max(OLDEST_PROTOCOL_VERSION, oldest) else None


@cache
def own_version() -> str:
    """The installed version; "unknown" when run from a bare folder."""
    try:
        return version("allsorts")
    except PackageNotFoundError:
        return "unknown"
