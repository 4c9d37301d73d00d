"""The options that `allsorts worker` and `allsorts join` share, and what the configuration calls them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.owner.conditions import When
from workers.sizes import parse_size


def size(text: str) -> int:
    """Of an option."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


MaxCores = Annotated[int | None, typer.Option(min=1, help="Compute on at most so many cores.")]
MaxMemory = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="All models together take at most this: 8GiB.")
]

WhenOption = Annotated[
    When | None,
    typer.Option(help="Take work always, only when plugged in, or only when also nobody uses this machine."),
]
BatteryPrice = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="On battery a request must be better off here by so many seconds (5)."),
]
WaitForModels = Annotated[
    bool,
    typer.Option("--wait-for-models", help="Let the fleet's operator load and unload models here (fleet.toml)."),
]
MaxDisk = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="Keep at most this on disk: logs, measurements.")
]

Role = Annotated[
    str | None, typer.Option(help="serve requests, or draft: propose tokens to the workers a router pairs it with.")
]
Listen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Where a draft listens for its targets (any free port).")
]

KeepFree = Annotated[
    int | None,
    typer.Option(parser=size, metavar="SIZE", help="Models that are fetched leave so much of the disk free (10GiB)."),
]
MaxModelsDisk = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="And fill their folder up to this at most.")
]
NoShare = Annotated[bool, typer.Option("--no-share", help="Models here go to no other machine of the pool.")]

_SAME = (
    "engine",
    "base_url",
    "node",
    "slots",
    "threads",
    "max_cores",
    "when",
    "role",
    "listen",
)
_BYTES = ("max_memory", "max_disk", "keep_free")


def flags_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as the configuration names it; None: not given."""
    return {
        **{name: given[name] for name in _SAME},
        **{f"{name}_bytes": given[name] for name in _BYTES},
        "max_models_bytes": given["max_models_disk"],
        "share": False if given["no_share"] else None,
        "wait_for_models": given["wait_for_models"] or None,
        "context_tokens": given["context"],
        "battery_price_s": given["battery_price"],
        "benchmark": "off" if given["no_benchmark"] else "quick" if given["quick_benchmark"] else None,
    }


def text_of(path: Path | None) -> str | None:
    """Of a path that was given."""
    return str(path) if path else None
