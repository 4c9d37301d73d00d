"""``allsorts join``: this machine into a fleet, by the one line the head printed."""

import asyncio
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from protos.contract.joining.join_token import BadToken, parse_token
from protos.contract.printable import plain_text
from workers.cli.alone import run_alone
from workers.cli.given_token import HELP as TOKEN_HELP
from workers.cli.given_token import given_token
from workers.cli.join_steps import JoinSteps, JoinWish
from workers.cli.options import (
    BatteryPrice,
    KeepFree,
    Listen,
    MaxCores,
    MaxDisk,
    MaxMemory,
    MaxModelsDisk,
    NoShare,
    Role,
    WaitForModels,
    WhenOption,
    flags_of,
)
from workers.cli.worker import EXPECTED
from workers.config import parse_model
from workers.engines.table import DEFAULT_ENGINE, ENGINE_HELP
from workers.joining.home import Home
from workers.joining.staying.restart import become
from workers.joining.view import JoinView

FAILURES = (*EXPECTED, BadToken)
"""Each is one clear line."""


def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="As `allsorts token create` printed it.")],
    token: Annotated[
        str, typer.Option(envvar="ALLSORTS_TOKEN", help=f"{TOKEN_HELP}; not needed to come back.", show_default=False)
    ] = "",
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Serve this; may be repeated. Else you are asked.")
    ] = None,
    models: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where model files lie.")] = None,
    wait_for_models: WaitForModels = False,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = DEFAULT_ENGINE,
    base_url: Annotated[str | None, typer.Option(help="The running server's base URL, with --engine openai.")] = None,
    node: Annotated[str | None, typer.Option(help="This machine's name in the fleet.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Longest prompt plus output, in tokens.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Sequences that run together.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    max_cores: MaxCores = None,
    max_memory: MaxMemory = None,
    max_disk: MaxDisk = None,
    keep_free: KeepFree = None,
    max_models_disk: MaxModelsDisk = None,
    no_share: NoShare = False,
    when: WhenOption = None,
    battery_price: BatteryPrice = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
    no_benchmark: Annotated[bool, typer.Option("--no-benchmark", help="Do not measure.")] = False,
    quick_benchmark: Annotated[bool, typer.Option("--quick-benchmark", help="Measure for four seconds.")] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Logs go there; else to standard error, on a terminal to a file."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the router's choice without asking.")] = False,
    auto_upgrade: Annotated[
        bool, typer.Option("--auto-upgrade", help="Come to the head's version by itself, streams first.")
    ] = False,
    role: Role = None,
    listen: Listen = None,
    install: Annotated[bool, typer.Option("--install", help="Come back after every reboot.")] = False,
) -> None:
    """Add this machine to a fleet and serve.

    Examples:
      allsorts join head.local:8099 --token as1.…

      allsorts join head.local:8099 --token as1.… --model llama-3.1-8b=models/llama-3.1-8b-q4_k_m.gguf --install

      allsorts join head.local:8099 --token as1.… --role draft --model llama-3.2-1b=models/llama-3.2-1b-q4_k_m.gguf

      allsorts join head.local:8099 --token as1.… --wait-for-models --max-memory 16GiB

      allsorts join head.local:8099            (again, later: the key from the first time is enough)

    """
    _join(locals())


def _join(given: Mapping[str, Any]) -> None:
    address, token, node, state_dir = given["address"], given["token"], given["node"], given["state_dir"]
    view = JoinView()
    try:
        steps = JoinSteps(_wish(given), view)
        code, reason = asyncio.run(steps.run())
        if steps.again:
            become(steps.again)
    except FAILURES as error:
        code, reason = 1, str(error).splitlines()[0]
        reason += f" (more: {_doctor(address, token, node, state_dir)})"
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    if code != 0:
        typer.echo(plain_text(f"allsorts join: {reason}"), err=True)
    raise typer.Exit(code)


def _wish(given: Mapping[str, Any]) -> JoinWish:
    """What was asked for. Models are fetched here only where the owner lets the operator decide what is loaded."""
    home = Home.of(given["state_dir"], models=given["models"])
    more = {"models_dir": str(home.models), "state_dir": str(home.state), "cache_dir": str(home.cache)}
    return JoinWish(
        address=given["address"],
        token=parse_token(given_token(given["token"])) if given["token"] else None,
        flags={**flags_of(given), **more, "fetch": given["wait_for_models"]},
        named=tuple(parse_model(one) for one in given["model"] or ()),
        home=home,
        state_dir=given["state_dir"],
        log_file=given["log_file"],
        ask=not given["yes"] and sys.stdin.isatty(),
        install=given["install"],
        auto_upgrade=given["auto_upgrade"],
    )


def _doctor(address: str, token: str, node: str | None, state_dir: Path | None) -> str:
    """The doctor's line that looks at what this join looked at."""
    words = ["allsorts", "doctor", address]
    words += ["--node", node] if node else []
    words += ["--state-dir", str(state_dir)] if state_dir else []
    return shlex.join(words) + (" --token …" if token else "")


if __name__ == "__main__":
    run_alone(join)
