"""Sizes as people write them."""

import re

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9,
          "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes of ``8GiB``, ``500 MB``, ``1.5g`` (a bare letter counts in powers of two). Raises ValueError.

    >>> parse_size("8GiB"), parse_size("500 MB"), parse_size("1.5g")
    (8589934592, 500000000, 1610612736)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or not (size := round(float(found[1]) * unit)):
        raise ValueError(f"{text!r} is no size; write for example 8GiB, 500MB")
    return size
