"""``keep_alive`` as Ollama's clients write it: seconds, or a duration of Go's (``1h30m``); below 0: for ever."""

import math
import re

from router.errors import InvalidRequest

_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def keep_alive_s(given: float | str | None) -> float | None:
    """Seconds; None: nothing was asked. Raises InvalidRequest.

    >>> keep_alive_s("1h30m"), keep_alive_s(-1), keep_alive_s("0")
    (5400.0, inf, 0.0)
    """
    if given is None or given == "":
        return None
    if isinstance(given, (int, float)):
        return math.inf if given < 0 else float(given)
    text = given.strip()
    negative, text = text.startswith("-"), text.lstrip("+-")
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return math.inf if negative else float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidRequest(
            "Invalid value for 'keep_alive': expected seconds, or a duration such as '5m'", param="keep_alive"
        )
    return math.inf if negative else sum(float(number) * _UNITS[unit] for number, unit in parts)
