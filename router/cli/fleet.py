"""``allsorts fleet``: who is in the pool, as one table, or as two where one is too wide for the terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from router.cli.support.fetches import fetch_line
from router.cli.support.tables import Row, Sheet, wide_console
from router.errors import ConfigError

DEADLINE_S = 10.0
WATCH_INTERVAL_S = 1.0
URL = "http://127.0.0.1:8000"

_COLUMNS = ("node", "hardware", "engine", "model", "quantization", "state", "run/wait", "kv", "tokens/s")
_OF_MACHINE = ("node", "hardware", "engine", "run/wait", "kv")
_OF_MODEL = ("node", "model", "quantization", "state", "tokens/s")
_FIGURES = ("run/wait", "kv", "tokens/s")
_STATE_STYLES = {"ready": "green", "failed": "red", "gone": "red", "asleep": "yellow", "draining": "yellow"}


def fleet(
    url: Annotated[str, typer.Option("--url", envvar="ALLSORTS_URL", help="Where the router listens.")] = URL,
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope observe.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the router answers, as it is.")] = False,
) -> None:
    """Show every worker with its hardware, engine, model, quantization, state, load and measured speed.

    Examples:
      allsorts fleet

      allsorts fleet --watch --url http://127.0.0.1:9000

    """
    console = wide_console()
    if as_json:
        console.print_json(data=read_fleet(url, key))
        return
    if not watch:
        console.print(fleet_table(read_fleet(url, key)))
        return
    with Live(fleet_table(read_fleet(url, key)), console=console, auto_refresh=False) as live:
        for view in watched(lambda: read_fleet(url, key)):
            live.update(view, refresh=True)
            time.sleep(WATCH_INTERVAL_S)


def watched(poll: Callable[[], dict[str, Any]], now: Callable[[], float] = time.monotonic) -> Iterator[RenderableType]:
    """The fleet as each poll finds it. A poll that fails, as while the router restarts, leaves the last table and says
    so below it.
    """
    last: FleetTable | None = None
    seen_at = now()
    while True:
        try:
            last = fleet_table(poll())
        except ConfigError as error:
            told = Text(f"no answer for {now() - seen_at:.0f} s, trying on: {error.message}", style="red")
            yield told if last is None else Group(last, "", told)
        else:
            seen_at = now()
            yield last


def read_fleet(url: str, key: str = "") -> dict[str, Any]:
    """What ``/admin/fleet`` answers. Raises ConfigError with the reason."""
    address = f"{url.rstrip('/')}/admin/fleet"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(address, headers=headers, timeout=DEADLINE_S)
        body = reply.json()
    except httpx.HTTPError as error:
        raise ConfigError(f"{address}: {error or type(error).__name__}; is the router running there?") from None
    except ValueError:
        raise ConfigError(f"{address}: the reply is not JSON; is this an allsorts router?") from None
    if reply.status_code != 200:
        raise ConfigError(f"{address}: {body.get('error', {}).get('message', reply.status_code)}")
    return dict(body)


class FleetTable:
    """For rich to print. ``rows`` are the cells of each model of each worker, by heading."""

    def __init__(self, rows: list[dict[str, str]], below: Sequence[str] = ()) -> None:
        self._rows = rows
        self._below = below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One table, or the machines and below them their models; then what is on its way."""
        yield from self._tables(options)
        if self._below:
            yield ""
            yield Text("\n".join(self._below))

    def _tables(self, options: ConsoleOptions) -> Iterator[RenderableType]:
        if not self._rows:
            yield "(no workers yet)"
            return
        whole = self._sheet(_COLUMNS)
        if whole.fits(options.max_width):
            yield whole
            return
        yield self._sheet(_OF_MACHINE)
        yield ""
        yield self._sheet(_OF_MODEL, keys=3)

    def _sheet(self, headings: tuple[str, ...], keys: int = 1) -> Sheet:
        cells = dict.fromkeys(tuple(row[heading] for heading in headings) for row in self._rows)
        return Sheet(headings, [Row(one) for one in cells], keys=keys, right=_FIGURES)


def fleet_table(body: dict[str, Any]) -> FleetTable:
    """One row for each model of each worker; tokens/s are what the join benchmark measured for one stream."""
    return FleetTable(
        [
            dict(zip(_COLUMNS, _row(worker, model, body.get("allsorts", "")), strict=True))
            for worker in body["workers"]
            for model in worker["models"] or [{}]
        ],
        [fetch_line(one) for one in body.get("fetches", ())],
    )


def _row(worker: dict[str, Any], model: dict[str, Any], head: str) -> list[str]:
    """Words that workers chose are shown as they are, brackets too."""
    state = worker["state"]
    if model.get("state") == "failed" or (state == "ready" and model.get("state") not in (None, "ready")):
        state = model["state"]
    if state == "enrolled" and worker.get("takes_models") and not model:
        state = "waits for models"
    style = _STATE_STYLES.get(state, "")
    shown = f"[{style}]{state}[/{style}]" if style else state
    if worker["cordoned"]:
        shown += " (cordoned)"
    if worker.get("price_s"):
        shown += f" (its owner asks {worker['price_s']:g} s)"
    version = worker.get("version", "")
    if head and version and version != head:
        shown += f" (allsorts {escape(version)}, the head {escape(head)})"
    reason = (
        worker.get("away_reason") or model.get("error") or model.get("suspended_reason") or worker["suspended_reason"]
    )
    if rounds := worker.get("draft_rounds"):
        method = f" by {escape(model['speculates'])}" if model.get("speculates") else ""
        shown += f" (speculates{method}: {1 + worker['draft_accepted'] / rounds:.1f} tokens a round)"
    elif (told := model.get("speculates", "")).startswith("off: "):
        shown += f" (speculation {escape(told)})"
    shown += _drafting(worker, model)
    speed = model.get("speed") or {}
    rate = speed.get("decode_tokens_per_s")
    return [
        escape(worker["node"]),
        escape(hardware_line(worker["hardware"])),
        escape(worker["engine"]),
        escape(model.get("model", "-")),
        escape(model.get("quantization", "-")),
        f"{shown}: {escape(reason)}" if reason else shown,
        f"{worker['running']}/{worker['waiting']}",
        f"{100 * worker['kv_used']:.0f}%",
        f"{rate:.1f}{'' if speed.get('measured') else ' (expected)'}" if rate else "-",
    ]


def _drafting(worker: dict[str, Any], model: dict[str, Any]) -> str:
    """How a target gets on with its draft, and what a draft is there for."""
    told = "".join(
        f" (draft {escape(one['draft'])}: {escape(draft_line(one))})"
        for one in worker.get("drafts", ())
        if (one["model"], one["quantization"]) == (model.get("model"), model.get("quantization"))
    )
    if worker.get("role") == "draft":
        names = ", ".join(worker.get("drafts_for", ()))
        told += f" (drafts for {escape(names)})" if names else " (drafts for nobody)"
    reason = worker.get("draft_reason")
    return told + (f" (no draft: {escape(reason)})" if reason and worker.get("role") != "draft" else
                   f" ({escape(reason)})" if reason else "")  # fmt: skip


def draft_line(one: dict[str, Any]) -> str:
    """How a target gets on with its draft, in a few words."""
    if one["paused"]:
        return f"paused, {one['paused']}"
    if not one["rounds"]:
        return "not worth asking" if one["token_s"] else "not asked yet"
    gain = f", {one['measured_gain']:.2f}x of {one['predicted_gain']:.2f}x predicted" if one["measured_gain"] else ""
    wasted = f", {one['wasted_s']:.1f} s of it in vain" if one["wasted_s"] >= 0.1 else ""
    accepted = f"{one['accepted']} of {one['proposed']} accepted"
    return f"{one['mean_acceptance_length']:.1f} tokens a round, {accepted}, {one['late']} late{wasted}{gain}"


def hardware_line(hardware: dict[str, Any]) -> str:
    """A machine in one short line: its count, its name, its memory."""
    count = f"{hardware['count']}x " if hardware["count"] > 1 else ""
    memory = hardware["memory_bytes"] / 2**30
    return f"{count}{hardware['name']}" + (f", {memory:.0f} GiB" if memory else "")
