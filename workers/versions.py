"""Which Allsorts this is."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The installed version; "unknown" when run from a bare folder."""
    try:
        return version("allsorts")
    except PackageNotFoundError:
        return "unknown"
