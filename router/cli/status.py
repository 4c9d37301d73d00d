"""``allsorts status``: what is wanted of the fleet, what there is of it, and what is in the way."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from router.cli.support.admin_client import AdminClient
from router.cli.support.tables import Row, Sheet, wide_console

_HEADINGS = ("model", "wanted", "copies", "where it stands")


def status(
    url: Annotated[
        str, typer.Option(envvar="ALLSORTS_URL", help="Where the router listens.")
    ] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope observe.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the router answers, as it is.")] = False,
) -> None:
    """Show how far the fleet is on its way to what `allsorts apply` said.

    Examples:
      allsorts status

      allsorts status --json

    """
    body = asyncio.run(AdminClient(url, key).call("GET", "/admin/status"))
    console = wide_console()
    if as_json:
        console.print_json(data=body)
        return
    if not body["version"]:
        console.print("nothing is wanted of the fleet yet: `allsorts apply fleet.toml`")
        return
    console.print(status_table(body))


def status_table(body: Mapping[str, Any]) -> Sheet:
    """One row for each wanted model."""
    return Sheet(_HEADINGS, [Row(_cells(one)) for one in body["models"]])


def _cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    least, most = model["min"], model["max"]
    ready = sum(one["state"] == "ready" for one in model["copies"])
    copies = ", ".join(_copy(one) for one in model["copies"])
    stands = model["blocked"] or model["waiting"] or (copies or "nobody asked for it yet")
    if copies and stands != copies:
        stands = f"{copies}; {stands}"
    wanted = f"{least}" if least == most else f"{least} to {most}"
    return escape(model["model"]), wanted, str(ready), escape(stands)


def _copy(copy: Mapping[str, Any]) -> str:
    named = f"{copy['node']}@{copy['quantization']}"
    if copy["state"] == "ready":
        return named
    share = f" {100 * copy['fraction']:.0f}%" if copy["state"] in ("loading", "benchmarking") else ""
    return f"{named} {copy['state']}{share}" + (f": {copy['message']}" if copy["state"] == "failed" else "")
