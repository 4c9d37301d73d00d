"""``allsorts explain``: why a request went where it went. ``allsorts replay``: the same decision once more, or with
one input changed.
"""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from router.errors import ConfigError
from router.placement.cost import TERMS
from router.placement.record import DecisionRecord
from router.placement.replay import Change, Replayed, differences
from router.placement.replay import replay as replay_record

DEADLINE_S = 10.0
_ROUTER = "http://127.0.0.1:8000"

_CLOSEST_VALUES = ("running", "waiting", "prefill_pending", "context_held", "cached_tokens", "inflight_requests")
_BESIDE = ("broken", "ttft", "tpot")


def explain(
    request_id: Annotated[str, typer.Argument(help="The x-request-id of an answer.")],
    router: Annotated[str, typer.Option(envvar="ALLSORTS_URL", help="Where the router listens.")] = _ROUTER,
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope observe.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, as replay reads them.")] = False,
) -> None:
    """Show the candidates of a request, what each would have cost, and what then happened."""
    body = _fetch(f"{router.rstrip('/')}/admin/explain/{request_id}", key)
    try:
        records = msgspec.json.decode(body, type=_Explanation).records
    except msgspec.DecodeError as error:
        _fail(f"{router}: the reply is no decision record ({error}); is this an allsorts router?")
    for record in records:
        if as_json:
            print(msgspec.json.encode(record).decode())
        else:
            _show(record)


def replay(
    records: Annotated[Path, typer.Argument(help="Decision records, one JSON object a line.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="worker.field=value or request.field=value; may be repeated.")
    ] = None,
    request_id: Annotated[str, typer.Option("--request", help="Only this request's decisions.")] = "",
) -> None:
    """Compute recorded decisions again; exits with 1 when one does not come out as recorded."""
    try:
        changes = [Change.parse(text) for text in change or ()]
        found = [r for r in read_records(records) if request_id in ("", r.request_id)]
        if not found:
            raise ConfigError(f"{records}: no record{f' of request {request_id}' if request_id else ''} in it")
        replayed = [(record, replay_record(record, changes)) for record in found]
    except ConfigError as error:
        _fail(error.message)
    console = Console()
    wrong = [line for record, again in replayed if not changes for line in differences(record, again)]
    for record, again in replayed:
        console.print(_verdict(record, again), highlight=False, soft_wrap=True)
    for line in wrong:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if not changes and (wrong or not all(again.same for _, again in replayed)):
        raise typer.Exit(1)


def read_records(path: Path) -> list[DecisionRecord]:
    """Records from a file of JSON lines; a line may also be what ``/admin/explain`` answers.

    Raises ConfigError naming the file, the line and what is wrong in it.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    found: list[DecisionRecord] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if b'"records"' in line[:200]:
                found += msgspec.json.decode(line, type=_Explanation).records
            else:
                found.append(msgspec.json.decode(line, type=DecisionRecord))
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
    return found


class _Explanation(msgspec.Struct):
    request_id: str
    records: list[DecisionRecord]


def _fetch(url: str, key: str) -> bytes:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(url, headers=headers, timeout=DEADLINE_S)
    except httpx.HTTPError as error:
        _fail(f"{url}: {error or type(error).__name__}; is the router running there?")
    if reply.status_code == httpx.codes.NOT_FOUND:
        _fail("no record of this request: it was not sampled, has aged out, or another replica served it")
    if reply.status_code != httpx.codes.OK:
        _fail(f"{url}: HTTP {reply.status_code}: {reply.text[:300]}")
    return reply.content


def _show(record: DecisionRecord) -> None:
    console = Console()
    facts = record.facts
    console.print(
        f"[bold]{record.record_id}[/bold] policy {record.policy}: prompt {facts.prompt_tokens} tokens, "
        f"output about {facts.output_tokens:.0f}, waited {facts.waited_s:.3f} s",
        highlight=False,
    )
    console.print(_table(record))
    if record.omitted:
        console.print(f"{record.omitted} dearer candidates are not kept")
    for exclusion in record.exclusions:
        held = f"@{exclusion['quantization']}" if exclusion["quantization"] else ""
        console.print(f"excluded {exclusion['node']}{held}: {exclusion['reason']}", highlight=False, markup=False)
    margin = "" if record.margin_s is None else f", {record.margin_s:.3f} cheaper than the next"
    expected = record.prediction
    console.print(
        f"picked {_node(record)}{margin}; expected first token {expected['ttft_s']:.3f} s, "
        f"then {1000 * expected['tpot_s']:.1f} ms per token",
        highlight=False,
    )
    if record.most_pending_tokens:
        console.print(
            f"on condition that at most {record.most_pending_tokens} prompt tokens wait there", highlight=False
        )
    console.print(_what_happened(record.outcome), highlight=False)


def _table(record: DecisionRecord) -> Table:
    names = {name for candidate in record.candidates for name in candidate.terms}
    terms = [n for n in TERMS if n in names] + sorted(names - set(TERMS) - set(_BESIDE))
    terms += [n for n in _BESIDE if n in names]
    table = Table(show_lines=False)
    for heading in ("node", "quantization", "cost", *terms, *_CLOSEST_VALUES):
        table.add_column(heading, justify="left" if heading in ("node", "quantization") else "right")
    for candidate in sorted(record.candidates, key=lambda c: float("inf") if c.cost is None else c.cost):
        picked = candidate.worker == record.picked and candidate.quantization == record.picked_quantization
        table.add_row(
            candidate.node,
            candidate.quantization,
            _number(candidate.cost),
            *(_number(candidate.terms.get(name)) for name in terms),
            *(f"{candidate.values.get(name) or 0:.0f}" for name in _CLOSEST_VALUES),
            style="bold green" if picked else None,
        )
    return table


def _verdict(record: DecisionRecord, again: Replayed) -> str:
    now = f"{again.nodes[again.index]}@{again.picked.quantization}"
    if again.same:
        return f"{record.record_id}: {now}, as recorded"
    return f"{record.record_id}: {now} instead of {_node(record)}@{record.picked_quantization}"


def _node(record: DecisionRecord) -> str:
    return next((c.node for c in record.candidates if c.worker == record.picked), record.picked)


def _what_happened(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "still running, or its end was not recorded"
    if outcome["ending"] == "conflict":
        return f"more waited there: refused after {outcome['e2e_s']:.3f} s, and placed again"
    first = "none" if outcome["ttft_s"] is None else f"{outcome['ttft_s']:.3f} s"
    return (
        f"ended with {outcome['ending']} after {outcome['e2e_s']:.3f} s: first token {first}, "
        f"{outcome['completion_tokens']} tokens out, {outcome['cached_tokens']} of {outcome['prompt_tokens']} cached"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
