"""``allsorts doctor``: what is wrong with this machine or its way to a fleet, and what to do about it."""

import asyncio
import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protos.contract.joining.join_token import BadToken
from protos.contract.printable import plain_text
from workers.cli.given_token import HELP as TOKEN_HELP
from workers.cli.given_token import given_token
from workers.cli.log_setup import set_up_logging
from workers.doctor.report import diagnose, show_all
from workers.engines.table import DEFAULT_ENGINE
from workers.hardware.selftest import selftest as hardware_selftest


def doctor(
    address: Annotated[
        str, typer.Argument(metavar="[HOST:PORT]", help="Where this machine cannot join; empty: this machine alone.")
    ] = "",
    token: Annotated[
        str,
        typer.Option(envvar="ALLSORTS_TOKEN", help=f"{TOKEN_HELP}; examined, not used up.", show_default=False),
    ] = "",
    engine: Annotated[str, typer.Option(help="The engine that is to serve.")] = DEFAULT_ENGINE,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A model file: does it fit the memory?")] = None,
    node: Annotated[str, typer.Option(help="This machine's name in the fleet, if it joined under another.")] = "",
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Show what is detected of this machine's hardware, and from what.")
    ] = False,
    cluster: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Look at this Ray cluster's nodes instead (the router's install).")
    ] = "",
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --selftest: write down what the machine said.")
    ] = None,
) -> None:
    """Find out why a join fails; exits with 1 when something is to be mended.

    Examples:
      allsorts doctor

      allsorts doctor head.local:8099 --token as1.…

      allsorts doctor --selftest

      allsorts doctor --cluster 10.0.0.1:6379

    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between the findings
    set_up_logging("error")
    if selftest or record is not None:
        raise typer.Exit(1 if hardware_selftest(Console(highlight=False), record=record) else 0)
    if cluster:
        raise typer.Exit(examine_cluster(cluster))
    try:
        token = given_token(token)
    except (BadToken, OSError) as error:
        typer.echo(plain_text(f"allsorts doctor: {error}"), err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(asyncio.run(diagnose(address, token, engine=engine, model=model, node=node, state_dir=state_dir)))


def examine_cluster(address: str) -> int:
    """The router's part of the doctor, where it is installed: a worker's machine has no Ray."""
    examine = next((one.load() for one in entry_points(group="allsorts.doctor") if one.name == "cluster"), None)
    if examine is None:
        typer.echo("allsorts doctor: --cluster needs the router: pip install 'allsorts[router]'", err=True)
        return 1
    try:
        return show_all(examine(address), Console(highlight=False))
    except Exception as error:  # noqa: BLE001 - the edge: of a package that is not known here
        typer.echo(plain_text(f"allsorts doctor: {str(error).splitlines()[0]}"), err=True)
        return 1
