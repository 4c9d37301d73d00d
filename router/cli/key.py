"""``allsorts key``: API keys."""

import time
from typing import Annotated, Any

import typer
from rich.markup import escape

from router.cli.support.admin_client import as_admin
from router.cli.support.durations import parse_duration, parse_pairs
from router.cli.support.tables import Row, Sheet, wide_console
from router.cli.support.terminal import say
from router.http.server.interfaces import Credentials

app = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)

_Url = Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Ask the router there.")]
_Key = Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope admin.")]
_COLUMNS = ("id", "name", "scopes", "expires", "priority", "requests/min", "tokens/min", "targets", "rules", "labels")
_FIGURES = ("priority", "requests/min", "tokens/min")

_StateDir = Annotated[str, typer.Option(help="The router's state, without --url.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is; keys of one name are one tenant.")],
    scopes: Annotated[str, typer.Option(help="serve, observe, admin; several with commas.")] = "serve",
    ttl: Annotated[str, typer.Option(help="How long it is good, e.g. 30d; empty: for ever.")] = "",
    labels: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Its prompts go only to machines with these labels.")
    ] = None,
    cache_group: Annotated[
        str, typer.Option(help="Share caches of prompts with keys of this group; else only with the same name's.")
    ] = "",
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
        "cache_group": cache_group or None,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "priority": priority,
        "ttft_s": ttft,
        "tpot_s": tpot,
        "quality_floor": quality_floor,
        "never_quantized": never_quantized,
    }
    rules = {name: value for name, value in rules.items() if value not in (None, {})}
    made = as_admin(lambda admin: admin.create_key(rules), url=url, key=key, state_dir=state_dir)
    say(f"{made['key_id']} for {made['name']} ({', '.join(made['scopes'])}); keep it, it is not shown again:", err=True)
    say(made["key"])


@app.command("list")
def list_keys(url: _Url = "", key: _Key = "", state_dir: _StateDir = "") -> None:
    """Show the keys there are, without their secrets."""
    keys = as_admin(lambda admin: admin.list_keys(), url=url, key=key, state_dir=state_dir)
    if not keys:
        typer.echo("no keys: the router is open to its own machine, and refuses to listen elsewhere")
        return
    wide_console().print(Sheet(_COLUMNS, [Row(_cells(one)) for one in keys], right=_FIGURES))


def _cells(one: dict[str, Any]) -> list[str]:
    rules = [f"floor {one['quality_floor']}"] if one["quality_floor"] else []
    rules += [f"cache group {one['cache_group']}"] if one.get("cache_group") else []
    rules += ["never quantized"] if one["never_quantized"] else []
    targets = [f"{what} {one[name]:g} s" for what, name in _TARGETS.items() if one.get(name)]
    cells = [
        one["key_id"],
        one["name"],
        ", ".join(one["scopes"]),
        _until(one.get("expires_at")),
        str(one.get("priority", 0)),
        *(str(one[name] or "-") for name in ("requests_per_minute", "tokens_per_minute")),
        ", ".join(targets) or "-",
        ", ".join(rules) or "-",
        ", ".join(f"{k}={v}" for k, v in one["required_labels"].items()) or "-",
    ]
    return [escape(cell) for cell in cells]


_TARGETS = {"ttft": "ttft_s", "ttft per prompt token": "ttft_per_prompt_token_s", "tpot": "tpot_s"}


def _until(expires_at: float | None) -> str:
    if expires_at is None:
        return "never"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(expires_at))
    return f"{when} (past)" if expires_at < time.time() else when


@app.command()
def delete(
    key_id: Annotated[str, typer.Argument(help="As `allsorts key list` shows it.")],
    url: _Url = "",
    key: _Key = "",
    state_dir: _StateDir = "",
) -> None:
    """Forget a key; a running router refuses it from a second later on."""

    async def work(admin: Credentials) -> int:
        known = {one["key_id"] for one in await admin.list_keys()}
        await admin.delete_key(key_id)
        return len(known - {key_id})

    left = as_admin(work, url=url, key=key, state_dir=state_dir)
    say(f"deleted {key_id}")
    if not left:
        say(
            "that was the last one: a running router lets nobody in until there is one again; one that starts without "
            "keys is open to whoever works on its machine",
            err=True,
        )
