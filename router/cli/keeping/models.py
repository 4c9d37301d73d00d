"""``allsorts models``: whose files lie where in the pool, having them fetched or taken away; and what lies here."""

import asyncio
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.markup import escape

from protos.contract.models.model_name import parse_name
from router.cli.support.admin_client import AdminClient
from router.cli.support.fetches import fetch_line, label
from router.cli.support.tables import Row, Sheet, wide_console
from router.cli.support.terminal import say
from router.errors import ConfigError

_ROUTER = "http://127.0.0.1:8000"
LOOK_EVERY_S = 0.5
GIVES_UP_S = 24 * 3600.0
REMOVES_WITHIN_S = 20.0

_Url = Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Where the router listens.")]
_Key = Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key: observe to list, admin to change.")]
_On = Annotated[str, typer.Option("--on", help="The node, as `allsorts fleet` shows it; none: this machine's folder.")]
_Folder = Annotated[str, typer.Option("--models", help="This machine's folder of models, if it is not the usual one.")]
_Json = Annotated[bool, typer.Option("--json", help="Print what the router answers, as it is.")]
_Model = Annotated[str, typer.Argument(help="NAME, NAME@QUANTIZATION, or the beginning of its hash.")]

app = typer.Typer(
    help="Models' files: where they lie, and having them fetched or taken away.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


@app.callback()
def models(context: typer.Context, url: _Url = _ROUTER, key: _Key = "", as_json: _Json = False) -> None:
    """List every model of the pool: quantization, size, hash, which nodes have its files and have it loaded.

    Examples:
      allsorts models

      allsorts models here

      allsorts models pull smollm2-135m@q8_0 --on studio

      allsorts models pull hf:OWNER/REPOSITORY/FILE.gguf --on studio

      allsorts models remove smollm2-135m@q8_0 --on studio

    """
    if context.invoked_subcommand is None:
        _list(url, key, as_json)


@app.command("list")
def list_models(url: _Url = _ROUTER, key: _Key = "", as_json: _Json = False) -> None:
    """The same as `allsorts models` alone."""
    _list(url, key, as_json)


@app.command()
def here(folder: _Folder = "") -> None:
    """List the models whose files lie on this machine, with their hashes (worked out where they are not known yet).

    Examples:
      allsorts models here

      allsorts models here --models /srv/models

    """
    _local("here")(folder)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A model of the pool (NAME@QUANTIZATION or hash), a URL, or hf:….")],
    on: _On = "",
    name: Annotated[str, typer.Option(help="The model's public name, where a URL's file does not say it.")] = "",
    folder: _Folder = "",
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and do not wait.")] = False,
    url: _Url = _ROUTER,
    key: _Key = "",
) -> None:
    """Have a machine fetch a model: from whoever in the pool has it, or from a URL or Hugging Face's Hub.

    Without --on it comes into this machine's own folder (on the head: what the head hands out), from a URL or the Hub.

    Examples:
      allsorts models pull smollm2-135m@q8_0 --on studio

      allsorts models pull https://example.org/model-q4_k_m.gguf --on studio

      allsorts models pull hf:OWNER/REPOSITORY/FILE.gguf

    """
    is_source = model.startswith(("http://", "https://", "hf:"))
    if not on:
        if not is_source:
            raise ConfigError(f"{model}: name the machine that is to have it with --on NODE, or give a URL or hf:…")
        _local("pull")(model, name, folder)
        return
    body = {"node": on, **({"model": name, "sources": [model]} if is_source else _asked(model))}
    client = AdminClient(url, key)
    told = asyncio.run(client.call("POST", "/admin/models/pull", body))
    what = label(told)
    if detach:
        say(f"{on} fetches {what}; `allsorts models` says how far it is")
        return
    _follow(client, on, told, what)


@app.command()
def remove(model: _Model, on: _On = "", folder: _Folder = "", url: _Url = _ROUTER, key: _Key = "") -> None:
    """Have a model's files deleted from a machine. One that is loaded or being loaded stays, and says so.

    Examples:
      allsorts models remove smollm2-135m@q8_0 --on studio

      allsorts models remove 3f2a91c0 --on studio

    """
    if not on:
        _local("remove")(model, folder)
        return
    client = AdminClient(url, key)
    told = asyncio.run(client.call("POST", "/admin/models/remove", {"node": on, **_asked(model)}))
    deadline = time.monotonic() + REMOVES_WITHIN_S
    while time.monotonic() < deadline:
        shown = _shown(client)
        if not any(on in one["held_by"] for one in _rows_of(shown, told)):
            say(f"{label(told)} is gone from {on}")
            return
        for one in _fetches_of(shown, on, told):
            if one["error"].startswith("not removed"):
                raise ConfigError(f"{on}: {one['error']}")
        time.sleep(LOOK_EVERY_S)
    raise ConfigError(f"{on} has not said within {REMOVES_WITHIN_S:.0f} s that {label(told)} is gone")


# ---------------------------------------------------------------- the pool


def _list(url: str, key: str, as_json: bool) -> None:
    shown = _shown(AdminClient(url, key))
    console = wide_console()
    if as_json:
        console.print_json(data=shown)
        return
    if not shown["models"] and not shown["fetches"]:
        say("no models yet")
        return
    console.print(models_table(shown))
    for one in shown["fetches"]:
        console.print(escape(fetch_line(one)))


def models_table(shown: Mapping[str, Any]) -> Sheet:
    """One row for each model by its content."""
    headings = ("model", "quantization", "MB", "sha256", "files on", "loaded on")
    rows = [
        Row(
            [
                escape(one["model"]),
                escape(one["quantization"] or "-"),
                f"{one['size_bytes'] / 1e6:.1f}" if one["size_bytes"] else "-",
                one["content"][:12] or "-",
                escape(", ".join(one["held_by"]) or "-"),
                escape(", ".join(one["loaded_by"]) or "-"),
            ]
        )
        for one in shown["models"]
    ]
    return Sheet(headings, rows, keys=2, right=("MB",))


def _follow(client: AdminClient, node: str, told: Mapping[str, Any], what: str) -> None:
    """Say how far it is until it is there."""
    deadline, said, began = time.monotonic() + GIVES_UP_S, "", False
    while time.monotonic() < deadline:
        shown = _shown(client)
        fetches = _fetches_of(shown, node, told)
        if not fetches and any(node in one["held_by"] for one in _rows_of(shown, told)):
            say(f"{what} is on {node}")
            return
        for one in fetches:
            if one["error"]:
                raise ConfigError(f"{node}: {one['error']}")
            if (line := fetch_line(one)) != said:
                say(said := line)
        began = began or bool(fetches)
        time.sleep(LOOK_EVERY_S)
    raise ConfigError(f"{node} has not fetched {what} within a day")


def _shown(client: AdminClient) -> dict[str, Any]:
    return dict(asyncio.run(client.call("GET", "/admin/models")))


def _rows_of(shown: Mapping[str, Any], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By its content where that is known, else by its name."""
    if told["content"]:
        return [one for one in shown["models"] if one["content"] == told["content"]]
    return [one for one in shown["models"] if one["model"] == told["model"]]


def _fetches_of(shown: Mapping[str, Any], node: str, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        one
        for one in shown["fetches"]
        if (one["node"], one["model"], one["quantization"]) == (node, told["model"], told["quantization"])
    ]


def _asked(text: str) -> dict[str, str]:
    """A hash, or a name with or without its quantization."""
    if len(text) >= 8 and all(one in "0123456789abcdef" for one in text):
        return {"content": text}
    if "@" not in text:
        return {"model": text}
    named = parse_name(text)
    return {"model": named.model, "quantization": named.quantization}


# ---------------------------------------------------------------- this machine


def _local(action: str) -> Any:
    """What the worker's side does on its own machine, found by entry point: this side knows nothing of workers."""
    found = [one for one in entry_points(group="allsorts.models") if one.name == action]
    if not found:
        raise ConfigError(f"this installation cannot `{action}` models of this machine; install allsorts anew")
    return found[0].load()
