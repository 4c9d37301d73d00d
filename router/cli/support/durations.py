"""Durations and labels as people type them: ``90``, ``15m``, ``1h``, ``7d``; ``site=lab``."""

import math

from router.errors import ConfigError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str, flag: str) -> float:
    """Seconds. Raises ConfigError naming the flag."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = float("nan")
    if math.isfinite(seconds) and seconds <= 0:
        raise ConfigError(f"{flag} {text!r}: must be above zero, for example 1h")
    if not math.isfinite(seconds):
        raise ConfigError(f"{flag} {text!r}: write a number with s, m, h or d, for example 1h")
    return seconds


def parse_pairs(pairs: list[str], flag: str) -> dict[str, str]:
    """``K=V``, several in one separated by commas. Raises ConfigError naming the flag."""
    found: dict[str, str] = {}
    for pair in (one for text in pairs for one in text.split(",") if one):
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"{flag} {pair!r}: write KEY=VALUE")
        found[key] = value
    return found
