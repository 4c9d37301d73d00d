"""``allsorts token create``: the one line to paste on the machine that joins."""

import time
from typing import Annotated

import typer

from router.cli.support.admin_client import as_admin
from router.cli.support.durations import parse_duration, parse_pairs
from router.cli.support.terminal import say

app = typer.Typer(help="Join tokens.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@app.callback()
def _group() -> None:
    """Join tokens: each lets machines into the pool, for a while, and so many of them."""


@app.command()
def create(
    ttl: Annotated[str, typer.Option(help="How long it is good: 15m, 1h, 7d.")] = "1h",
    uses: Annotated[int, typer.Option(min=1, help="How many machines it lets in.")] = 1,
    labels: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Labels of the machines it lets in; may be repeated.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What they may serve: names, or patterns such as 'llama-*'; else anything."),
    ] = None,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Print this instead of the known address.")] = "",
    url: Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Ask the router there.")] = "",
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope admin.")] = "",
    state_dir: Annotated[str, typer.Option(help="The router's state, without --url.")] = "",
) -> None:
    """Print the line to paste on the machine that joins.

    Examples:
      allsorts token create

      allsorts token create --ttl 7d --uses 20 --labels site=lab

      allsorts token create --models 'llama-*' --models qwen3-8b

    """
    ttl_s = parse_duration(ttl, "--ttl")
    given = parse_pairs(labels or [], "--labels")
    made = as_admin(
        lambda admin: admin.create_token(ttl_s=ttl_s, uses=uses, labels=given, models=models or ()),
        url=url,
        key=key,
        state_dir=state_dir,
        address=address,
    )
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(made["expires_at"]))
    machines = "one machine" if uses == 1 else f"{uses} machines"
    typer.echo(f"Paste on the other machine, which has allsorts (good for {machines} until {until}):", err=True)
    say(made["line"])
    typer.echo(
        "Who else works on that machine could read the token in its process list: give `--token -` there and paste it "
        "when asked, or `--token @FILE`.",
        err=True,
    )
    if made.get("bare_line"):
        say("Or, where there is nothing but Python 3.11 or uv; installs into ~/.allsorts and joins:", err=True)
        say(made["bare_line"])
