"""Versions of the protocol that this build speaks."""

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1


def agreed_version(newest: int, oldest: int) -> int | None:
    """The newest version that both speak, given the peer's range; None when there is none.

    >>> agreed_version(newest=PROTOCOL_VERSION + 3, oldest=1) == PROTOCOL_VERSION
    True
    >>> agreed_version(newest=0, oldest=0)
    """
    version = min(PROTOCOL_VERSION, newest)
    return version if version >= max(OLDEST_PROTOCOL_VERSION, oldest) else None
