"""Models' files on their way, in words."""

from collections.abc import Mapping
from typing import Any


def fetch_line(one: Mapping[str, Any]) -> str:
    """How far a fetch is, in one line."""
    what = f"{one['node']}: {label(one)}"
    if one["error"]:
        return f"{what}: {one['error']}"
    if not one["total_bytes"]:
        return f"{what}: fetching, {one['done_bytes'] / 1e6:.0f} MB from {one['source']}"
    share = 100 * one["done_bytes"] / one["total_bytes"]
    return f"{what}: fetching {share:.0f}% of {one['total_bytes'] / 1e6:.0f} MB from {one['source']}"


def label(one: Mapping[str, Any]) -> str:
    """A model, with its quantization where that is known."""
    return f"{one['model']}@{one['quantization']}" if one["quantization"] else str(one["model"])
