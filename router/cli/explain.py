"""``allsorts explain``: why a request went where it went. ``allsorts replay``: the same decision once more, or with
one input changed.
"""

import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import msgspec
import typer
from rich.markup import escape

from protos.contract.ids import WorkerId
from router.cli.fleet import draft_line
from router.cli.support.decision_sources import Explanation, Refused, read_records
from router.cli.support.tables import Row, Sheet, wide_console
from router.cli.support.terminal import say
from router.domain.placement import FilterName
from router.errors import ConfigError
from router.scheduling.explain.record import DecisionRecord
from router.scheduling.explain.replay import Change, Replayed, differences
from router.scheduling.explain.replay import replay as replay_record
from router.scheduling.placement.candidates import InstanceKey
from router.scheduling.placement.cost import TERMS

DEADLINE_S = 10.0
COMPARED = 20
"""Decisions whose costs `replay --set` shows; of more only the pick."""

_ROUTER = "http://127.0.0.1:8000"

_CLOSEST_VALUES = ("running", "waiting", "prefill_pending", "context_held", "cached_tokens", "inflight_requests")
_BESIDE = ("expected_slo_violations", "ttft", "tpot")


def explain(
    request_id: Annotated[str, typer.Argument(help="The x-request-id of an answer.")],
    url: Annotated[str, typer.Option("--url", envvar="ALLSORTS_URL", help="Where the router listens.")] = _ROUTER,
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope observe.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, as replay reads them.")] = False,
    router: Annotated[str, typer.Option("--router", hidden=True, help="The older name of --url.")] = "",
) -> None:
    """Show the candidates of a request, what each would have cost, and what then happened; or why it was refused.

    Examples:
      allsorts explain chatcmpl-2f6c...

      allsorts explain chatcmpl-2f6c... --json > decision.jsonl

    """
    url = router or url
    body = fetch(f"{url.rstrip('/')}/admin/explain/{request_id}", key)
    try:
        found = msgspec.json.decode(body, type=Explanation)
    except msgspec.DecodeError as error:
        _fail(f"{url}: the reply is no decision record ({error}); is this an allsorts router?")
    if as_json:
        for one in found.records if found.refused is None else [found]:
            say(msgspec.json.encode(one).decode())
        return
    for record in found.records:
        _show(record)
        for line in _drafted(record, found.drafts):
            say(line)
    if found.refused is not None:
        _show_refusal(found.refused)


def replay(
    records: Annotated[Path, typer.Argument(help="Decision records, one JSON object a line, of all replicas.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="worker.field=value or request.field=value; may be repeated.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave this machine out; may be repeated.")] = None,
    request_id: Annotated[str, typer.Option("--request", help="Only this request's decisions.")] = "",
) -> None:
    """Compute recorded decisions again; exits with 1 when one does not come out as recorded.

    What can be set: of a worker, what `explain --json` shows as its values and inputs; of the request, what it shows as
    facts. Of a machine that was excluded a record holds the reason and no figures: a floor or a label can only be
    tightened, by leaving machines out.

    Examples:
      allsorts replay records.jsonl

      allsorts replay records.jsonl --request chatcmpl-2f6c... --set m4-max.running=0 --without rtx-box

    """
    try:
        changes = [Change.parse(text) for text in change or ()]
        found = [r for r in read_records(records) if request_id in ("", r.request_id)]
        if not found:
            raise ConfigError(f"{records}: no record{f' of request {request_id}' if request_id else ''} in it")
        replayed = [(record, replay_record(record, changes, without or ())) for record in found]
    except ConfigError as error:
        _fail(error.message)
    console = wide_console()
    if changes or without:
        for number, (record, again) in enumerate(replayed):
            console.print(_verdict(record, again), highlight=False, markup=False, soft_wrap=True)
            if number < COMPARED:
                console.print(_comparison(record, again), "", sep="\n")
        if len(replayed) > COMPARED:
            console.print(f"costs of the first {COMPARED} decisions; choose others with --request", highlight=False)
        return
    wrong = [line for record, again in replayed for line in differences(record, again)]
    for record, again in replayed:
        console.print(_verdict(record, again), highlight=False, markup=False, soft_wrap=True)
    for line in wrong:
        console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    if wrong or not all(again.same for _, again in replayed):
        raise typer.Exit(1)


def _comparison(record: DecisionRecord, again: Replayed) -> Sheet:
    """Every candidate's cost as it was and as it comes out; those left out have none."""
    costs = dict(zip(again.keys, again.scores.cost.tolist(), strict=True))
    rows = []
    for one in record.candidates:
        key = InstanceKey(WorkerId(one.worker), one.model, one.quantization)
        then, now = one.cost, costs.get(key)
        more = "-" if then is None or now is None else f"{now - then:+.4g}"
        was = (one.worker, one.quantization) == (record.picked, record.picked_quantization)
        marks = [word for word, is_so in (("recorded", was), ("now", key == again.picked)) if is_so]
        cells = [escape(one.node), one.quantization, _number(then), _number(now), more, ", ".join(marks)]
        rows.append(Row(cells, "bold green" if key == again.picked else ""))
    rows.sort(key=lambda row: float("inf") if row.cells[3] == "-" else float(row.cells[3]))
    headings = ("node", "quantization", "cost recorded", "cost now", "difference", "picked")
    return Sheet(headings, rows, keys=2, right=headings[2:5])


class _Unknown(msgspec.Struct):
    """A 404, and whose."""

    replica: str = "router-0"
    replicas: int = 1


def fetch(url: str, key: str) -> bytes:
    """The explanation. Each router replica knows what it served itself: where there are several, whoever answers first
    may not be the one, and is asked again until all have been heard.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    heard: set[str] = set()
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            reply = httpx.get(url, headers=headers, timeout=DEADLINE_S)
        except httpx.HTTPError as error:
            _fail(f"{url}: {error or type(error).__name__}; is the router running there?")
        if reply.status_code == httpx.codes.OK:
            return reply.content
        if reply.status_code != httpx.codes.NOT_FOUND:
            _fail(f"{url}: HTTP {reply.status_code}: {reply.text[:300]}")
        try:
            unknown = msgspec.json.decode(reply.content, type=_Unknown)
        except msgspec.DecodeError:
            unknown = _Unknown()
        heard.add(unknown.replica)
        if len(heard) >= unknown.replicas:
            _fail("no record of this request: it was not sampled, has aged out, or never was")
        if time.monotonic() > until:
            _fail(
                f"no record of this request at {', '.join(sorted(heard))}; {unknown.replicas - len(heard)} of the "
                f"{unknown.replicas} router replicas did not answer in {DEADLINE_S:.0f} s"
            )


def _show_refusal(refused: Refused) -> None:
    console = wide_console()
    console.print(f"refused ({refused.code}): {refused.message}", highlight=False, markup=False, soft_wrap=True)
    rows = [Row([escape(text) for text in (e["node"], e["quantization"], e["reason"])]) for e in refused.exclusions]
    if rows:
        console.print("", Sheet(("node", "quantization", "reason"), rows, keys=2), sep="\n")


def _show(record: DecisionRecord) -> None:
    console = wide_console()
    facts = record.facts
    console.print(
        f"[bold]{escape(record.record_id)}[/bold] policy {record.policy}: prompt {facts.prompt_tokens} tokens, "
        f"output about {facts.output_tokens:.0f}, waited {facts.waited_s:.3f} s",
        highlight=False,
    )
    console.print(_table(record))
    if record.omitted:
        console.print(f"{record.omitted} dearer candidates are not kept")
    for exclusion in record.exclusions:
        held = f"@{exclusion['quantization']}" if exclusion["quantization"] else ""
        text = f"excluded {exclusion['node']}{held}: {exclusion['reason']}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if record.omitted_exclusions:
        labels = {one.value: one.label for one in FilterName}
        kinds = ", ".join(f"{count} {labels.get(name, name)}" for name, count in record.omitted_exclusions.items())
        console.print(f"excluded besides: {kinds}", highlight=False, markup=False, soft_wrap=True)
    alone = len(record.candidates) + record.omitted < 2
    margin = "" if record.margin_s is None or alone else f", {record.margin_s:.3f} cheaper than the next"
    expected = record.prediction
    console.print(
        f"picked {escape(_node(record))}{margin}; expected first token {expected['ttft_s']:.3f} s, "
        f"then {1000 * expected['tpot_s']:.1f} ms per token",
        highlight=False,
    )
    for line in _curves(record):
        console.print(line, highlight=False)
    if record.max_queued_prefill_tokens:
        console.print(
            f"on condition that at most {record.max_queued_prefill_tokens} prompt tokens wait there", highlight=False
        )
    console.print(_what_happened(record.outcome), highlight=False, markup=False)


def _drafted(record: DecisionRecord, drafts: list[dict[str, Any]]) -> list[str]:
    """How the candidates get on with their drafts now."""
    here = {(one.node, one.model, one.quantization) for one in record.candidates}
    return [
        f"{one['node']}@{one['quantization']} asks {one['draft']} for drafts: {draft_line(one)} (now; its speed has it)"
        for one in drafts
        if (one["node"], one["model"], one["quantization"]) in here
    ]


def _curves(record: DecisionRecord) -> list[str]:
    """Of the one picked, where its steps and prompts are priced by what was measured."""
    picked = (record.picked, record.picked_quantization)
    one = next((row for row in record.candidates if (row.worker, row.quantization) == picked), None)
    told = [("a step takes", one.decode_curve), ("a prompt takes", one.prefill_curve[1:])] if one else []
    return [f"there {what} {_points(curve)} (measured; by lines in between)" for what, curve in told if curve]


def _points(curve: list[tuple[int, float]]) -> str:
    """``4.0 ms for 1, 8.8 for 8``."""
    (at, seconds), *others = curve
    return ", ".join((f"{1000 * seconds:.4g} ms for {at}", *(f"{1000 * more:.4g} for {size}" for size, more in others)))


def _table(record: DecisionRecord) -> Sheet:
    names = {name for candidate in record.candidates for name in candidate.terms}
    if not any(candidate.terms.get("price") for candidate in record.candidates):
        names.discard("price")  # seldom does anybody ask one
    terms = [n for n in TERMS if n in names] + sorted(names - set(TERMS) - set(_BESIDE))
    terms += [n for n in _BESIDE if n in names]
    headings = ("node", "quantization", "cost", *terms, *_CLOSEST_VALUES)
    rows = []
    for candidate in sorted(record.candidates, key=lambda c: float("inf") if c.cost is None else c.cost):
        picked = candidate.worker == record.picked and candidate.quantization == record.picked_quantization
        cells = [
            escape(candidate.node),
            escape(candidate.quantization),
            _number(candidate.cost),
            *(_number(candidate.terms.get(name)) for name in terms),
            *(f"{candidate.values.get(name) or 0:.0f}" for name in _CLOSEST_VALUES),
        ]
        rows.append(Row(cells, "bold green" if picked else ""))
    return Sheet(headings, rows, keys=2, right=headings[2:])


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
    say(message, err=True)
    raise typer.Exit(1)
