"""``allsorts key``: API keys."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from router.cli.durations import parse_duration, parse_pairs
from router.cli.office import at_office

app = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)

_Url = Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Ask the router there.")]
_Key = Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope admin.")]
_StateDir = Annotated[str, typer.Option(help="The router's state, without --url.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is; keys of one name are one tenant.")],
    scopes: Annotated[str, typer.Option(help="serve, observe, admin; several with commas.")] = "serve",
    ttl: Annotated[str, typer.Option(help="How long it is good, e.g. 30d; empty: for ever.")] = "",
    labels: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Its prompts go only to machines with these labels.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    ttft: Annotated[float | None, typer.Option(help="Target: seconds to the first token.")] = None,
    tpot: Annotated[float | None, typer.Option(help="Target: seconds per further token.")] = None,
    quality_floor: Annotated[str | None, typer.Option(help="Lowest quantization it accepts, e.g. q6_k.")] = None,
    never_quantized: Annotated[bool, typer.Option("--never-quantized", help="Full precision only.")] = False,
    url: _Url = "",
    key: _Key = "",
    state_dir: _StateDir = "",
) -> None:
    """Make a key and print it; it is shown this once.

    Examples:
      allsorts key create --name me --scopes serve,observe,admin

      allsorts key create --name clinic --labels site=clinic --never-quantized --tokens-per-minute 100000

    """
    rules: dict[str, Any] = {
        "name": name,
        "scopes": [one.strip() for one in scopes.split(",") if one.strip()],
        "ttl_s": parse_duration(ttl, "--ttl") if ttl else None,
        "labels": parse_pairs(labels or [], "--labels"),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "priority": priority,
        "ttft_s": ttft,
        "tpot_s": tpot,
        "quality_floor": quality_floor,
        "never_quantized": never_quantized,
    }
    rules = {name: value for name, value in rules.items() if value not in (None, {})}
    made = at_office(lambda office: office.create_key(rules), url=url, key=key, state_dir=state_dir)
    typer.echo(
        f"{made['key_id']} for {made['name']} ({', '.join(made['scopes'])}); keep it, it is not shown again:", err=True
    )
    typer.echo(made["key"])


@app.command("list")
def list_keys(url: _Url = "", key: _Key = "", state_dir: _StateDir = "") -> None:
    """Show the keys there are, without their secrets."""
    keys = at_office(lambda office: office.list_keys(), url=url, key=key, state_dir=state_dir)
    if not keys:
        typer.echo("no keys: the router is open to its own machine, and refuses to listen elsewhere")
        return
    table = Table("id", "name", "scopes", "labels", "requests/min", "tokens/min", "rules", box=None)
    for one in keys:
        labels = ", ".join(f"{k}={v}" for k, v in one["required_labels"].items())
        rules = [f"floor {one['quality_floor']}"] if one["quality_floor"] else []
        rules += ["never quantized"] if one["never_quantized"] else []
        limits = (str(one[name] or "-") for name in ("requests_per_minute", "tokens_per_minute"))
        table.add_row(one["key_id"], one["name"], ", ".join(one["scopes"]), labels, *limits, ", ".join(rules))
    Console().print(table)


@app.command()
def delete(
    key_id: Annotated[str, typer.Argument(help="As `allsorts key list` shows it.")],
    url: _Url = "",
    key: _Key = "",
    state_dir: _StateDir = "",
) -> None:
    """Forget a key; a running router refuses it from a second later on."""
    at_office(lambda office: office.delete_key(key_id), url=url, key=key, state_dir=state_dir)
    typer.echo(f"deleted {key_id}")
