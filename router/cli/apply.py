"""``allsorts apply fleet.toml``: what the file wants of the fleet, first as a difference, then done."""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from router.cli.status import status_table
from router.cli.support.admin_client import AdminClient
from router.cli.support.durations import parse_duration
from router.cli.support.tables import Row, Sheet, wide_console
from router.cli.support.terminal import say
from router.errors import ConfigError
from router.fleet.desired.file import parse_fleet

LOOK_EVERY_S = 0.5
GIB = 2**30


def apply(
    file: Annotated[Path, typer.Argument(metavar="FLEET.TOML", help="What is wanted of the fleet.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and change nothing.")] = False,
    wait: Annotated[str, typer.Option(help="Follow it for so long; 0s: do not wait.")] = "10m",
    url: Annotated[
        str, typer.Option(envvar="ALLSORTS_URL", help="Where the router listens.")
    ] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope admin.")] = "",
) -> None:
    """Bring the fleet to what a file says: which models, how many copies of each, and where.

    Machines take part that joined with --wait-for-models. What an owner chose to serve is left alone. A file says:

      [[models]]

      name = "llama-3.1-8b"

      quantizations = ["q8_0", "q4_k_m"]         # best first

      copies = { min = 1, max = 3 }

      where = "24 GiB and CUDA"

    Examples:
      allsorts apply fleet.toml --dry-run

      allsorts apply fleet.toml --yes --wait 30m

    """
    state = parse_fleet(_text(file), str(file))
    client = AdminClient(url, key)
    body = {"state": msgspec.to_builtins(state)}
    found = asyncio.run(client.call("POST", "/admin/desired/plan", body))
    _show(found)
    if dry_run:
        return
    if not yes and found["changes"] and not _agreed():
        say("nothing was changed")
        raise typer.Exit(1)
    done = asyncio.run(client.call("POST", "/admin/desired", {**body, "version": found["version"]}))
    say(f"this is wanted from now on (version {done['version']})")
    seconds = 0.0 if wait.strip() in ("0", "0s") else parse_duration(wait, "--wait")
    if seconds and not _follow(client, done["version"], seconds):
        raise typer.Exit(1)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8, as TOML must be") from None


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: give --yes, or --dry-run to see the difference alone")
    return typer.confirm("go on?", default=True, err=True)


def _show(found: Mapping[str, Any]) -> None:
    console = wide_console()
    if found["changes"]:
        console.print(Sheet(("do", "model", "where", "takes", "why"), [Row(_cells(one)) for one in found["changes"]]))
    else:
        console.print("nothing is to be loaded, moved, restarted or unloaded")
    for model, why in found["blocked"].items():
        console.print(f"{model} lacks copies: {why}", style="yellow", markup=False, soft_wrap=True)


def _cells(change: Mapping[str, Any]) -> tuple[str, ...]:
    model = f"{change['model']}@{change['quantization']}"
    where = f"{change['was'].partition('@')[0]} → {change['node']}" if change["doing"] == "move" else change["node"]
    takes = f"{change['needs_bytes'] / GIB:.2f} GiB" if change["needs_bytes"] else ""
    return change["doing"], escape(model), escape(where), takes, escape(change["why"])


def _follow(client: AdminClient, version: int, seconds: float) -> bool:
    """Tell what changes until nothing does; False when it is not as the file says by then."""
    deadline, told = time.monotonic() + seconds, dict[str, str]()
    while True:
        body = asyncio.run(client.call("GET", "/admin/status"))
        if body["version"] > version:
            say("somebody applied another state meanwhile")
            return False
        for line, text in _lines(body).items():
            if told.get(line) != text:
                told[line] = text
                say(text)
        if body["version"] == version and body["settled"]:
            break
        if time.monotonic() > deadline:
            say(f"still under way after {seconds:.0f} s; `allsorts status` tells how far it is")
            return False
        time.sleep(LOOK_EVERY_S)
    wide_console().print(status_table(body))
    return not any(one["blocked"] for one in body["models"])


def _lines(body: Mapping[str, Any]) -> dict[str, str]:
    """What is told once, and again when it changes; by what it is about."""
    found: dict[str, str] = {}
    for model in body["models"]:
        for copy in model["copies"]:
            name = f"{model['model']}@{copy['quantization']} on {copy['node']}"
            found[name] = f"{name}: {copy['state']}" + (f" ({copy['message']})" if copy["state"] == "failed" else "")
    return found
