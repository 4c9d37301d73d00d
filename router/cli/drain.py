"""``allsorts drain | undrain | cordon | revoke NODE``: what an operator does to a machine of the running pool."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from router.cli.support.admin_client import AdminClient
from router.cli.support.durations import parse_duration
from router.cli.support.terminal import say

_Node = Annotated[str, typer.Argument(help="Node name or worker id, as `allsorts fleet` shows it.")]
_Url = Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Where the router listens.")]
_Key = Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope admin.")]
_ROUTER = "http://127.0.0.1:8000"


def drain(
    node: _Node,
    deadline: Annotated[str, typer.Option(help="What still runs then moves elsewhere.")] = "30s",
    url: _Url = _ROUTER,
    key: _Key = "",
) -> None:
    """Let a machine finish what it runs and take nothing new.

    Examples:
      allsorts drain mac-studio

      allsorts drain mac-studio --deadline 5m

    """
    _post("/admin/drain", {"node": node, "deadline_s": parse_duration(deadline, "--deadline")}, url, key)
    say(f"{node} drains; within {deadline} what is left moves to other machines")


def undrain(node: _Node, url: _Url = _ROUTER, key: _Key = "") -> None:
    """Let a drained or cordoned machine take work again."""
    _post("/admin/undrain", {"node": node}, url, key)
    say(f"{node} takes work again")


def cordon(node: _Node, url: _Url = _ROUTER, key: _Key = "") -> None:
    """Place nothing new on a machine, across restarts, until `allsorts undrain`."""
    _post("/admin/cordon", {"node": node}, url, key)
    say(f"{node} is cordoned; `allsorts undrain {node}` lifts it")


def revoke(
    node: _Node,
    reason: Annotated[
        str, typer.Option(help="Told to the machine, kept in the audit log.")
    ] = "revoked by the operator",
    model: Annotated[str, typer.Option(help="Only let it serve this model no more.")] = "",
    url: _Url = _ROUTER,
    key: _Key = "",
) -> None:
    """Cut a machine off at once and for good; its streams move.

    Examples:
      allsorts revoke old-laptop --reason sold

      allsorts revoke lab-3 --model llama-3.1-8b

    """
    _post("/admin/revoke", {"node": node, "reason": reason, **({"model": model} if model else {})}, url, key)
    if model:
        say(f"{node} serves {model} no more")
        return
    say(f"{node} is cut off; its key is refused from now on")


def _post(path: str, body: Mapping[str, Any], url: str, key: str) -> None:
    asyncio.run(AdminClient(url, key).call("POST", path, body))
