"""The report as one HTML page that needs nothing else: no script, nothing loaded."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.locust.report.charts import Line, chart
from loadtest.locust.report.figures import CURVE, POINTS

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#667085;--line:#e4e7ec;--bad:#b42318;--good:#067647;
--c1:#2563eb;--c2:#dc6803;--c3:#059669;--c4:#9333ea;--c5:#db2777;--c6:#0891b2}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--fg:#e6e9ee;--soft:#98a2b3;--line:#2b323c;--bad:#f97066;
--good:#47cd89;--c1:#60a5fa;--c2:#fdb022;--c3:#34d399;--c4:#c084fc;--c5:#f472b6;--c6:#22d3ee}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1320px;padding:24px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 10px}
p{margin:4px 0}.soft,.none{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0}
.tile{border:1px solid var(--line);border-radius:8px;padding:10px 14px;min-width:0}
.tile b{display:block;font-size:22px;font-weight:600;overflow-wrap:anywhere}.tile span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:20px}
figure{margin:0;min-width:0}figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:11px}.axis{fill:var(--soft);font-size:12px}
.line{fill:none;stroke-width:2}.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:5px 18px 5px 0;text-align:right;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}
th:first-child,td:first-child{text-align:left}code{font-size:13px}
"""


def document(title: str, *parts: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; the first column is text, the others figures."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(show(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def show(value: object) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def percent(value: float | None) -> str:
    """A share."""
    return "-" if value is None else f"{value:.1%}"


def page(report: Mapping[str, Any]) -> str:
    """The page of one run; ``report`` is what ``report.json`` holds."""
    run = report["run"]
    return document(
        f"Load test {run['label']}",
        f"<h1>Load test {html.escape(run['label'])}</h1>",
        f'<p class="soft">{html.escape(run["sent"])}</p>',
        f'<p class="soft">In time: {html.escape(report["slo"])}. TTFT and E2E count from when a request was due.</p>',
        _warnings(report),
        _tiles(report),
        '<div class="charts">',
        _figure("Goodput against offered load", _goodput(report)),
        _figure("Over the run: requests a second", _rates(report)),
        _figure("Over the run: time to first token", _ttfts(report)),
        _figure("Percentile curves", _curves(report)),
        "</div>",
        _percentile_table(report),
        _kinds(report),
        _workers(report),
        _endings(report),
        _agreement(report),
        _generator(report),
        '<p class="soft">Raw samples: <code>samples.jsonl</code>, one request a line; settings: <code>run.json</code>; '
        "these figures: <code>report.json</code>.</p>",
    )


def _figure(title: str, drawn: str) -> str:
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawn}</figure>"


def _warnings(report: Mapping[str, Any]) -> str:
    limits = report["generator"]["limits"]
    said = [f"The load generator, not the server, was the limit: {one}." for one in limits]
    said += [f"The endpoint does not take {name}: {words}" for name, words in report["run"]["refused"].items()]
    return "".join(f'<p class="bad">{html.escape(one)}</p>' for one in said)


def _tiles(report: Mapping[str, Any]) -> str:
    ttft, tpot = report["ttft_s"], report["tpot_s"]
    tiles = [
        ("goodput, requests/s", show(report["goodput_per_s"])),
        ("offered, requests/s", show(report["offered_per_s"])),
        ("inside the targets", percent(report["within_slo"])),
        ("TTFT p50 / p99, s", f"{show(ttft.get('p50'))} / {show(ttft.get('p99'))}"),
        ("TPOT p50 / p99, ms", f"{show(_ms(tpot.get('p50')))} / {show(_ms(tpot.get('p99')))}"),
        ("output tokens/s", show(report["output_tokens_per_s"])),
        ("prefix hits", percent(report["prefix_hit"])),
        ("shed / failed", f"{sum(report['shed'].values())} / {sum(report['failed'].values())}"),
    ]
    if report["knee_per_s"] is not None:
        tiles.insert(2, ("knee, requests/s", show(report["knee_per_s"])))
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles)
        + "</div>"
    )


def _goodput(report: Mapping[str, Any]) -> str:
    points = sorted((row["offered_per_s"], row["goodput_per_s"]) for row in report["steps"])
    if len(points) == 1:
        points = sorted(
            (row["offered_per_s"], row["goodput_per_s"]) for row in report["series"] if row["offered_per_s"]
        )
    most = max((one for one, _ in points), default=0.0)
    return chart(
        [Line(name="goodput", points=points, dots=True),
         Line(name="all in time", points=[(0.0, 0.0), (most, most)], dashed=True)],
        x="offered, requests/s", y="goodput, requests/s",
    )  # fmt: skip


def _rates(report: Mapping[str, Any]) -> str:
    rows = report["series"]
    return chart(
        [Line(name=name, points=[(row["at_s"], row[key]) for row in rows])
         for name, key in (("offered", "offered_per_s"), ("goodput", "goodput_per_s"), ("in flight", "in_flight"))],
        x="second of the run", y="requests/s; requests",
    )  # fmt: skip


def _ttfts(report: Mapping[str, Any]) -> str:
    rows = report["series"]
    return chart(
        [Line(name=f"TTFT {point}", points=[(row["at_s"], row["ttft_s"][point]) for row in rows if row["ttft_s"]])
         for point in ("p50", "p95")],
        x="second of the run", y="s",
    )  # fmt: skip


def _curves(report: Mapping[str, Any]) -> str:
    places = {f"p{point:g}": float(index) for index, point in enumerate(CURVE)}
    lines = [
        Line(name=name, points=[(places[point], value) for point, value in report["curves"][key].items() if value > 0])
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("gap between events", "itl_s"), ("E2E", "e2e_s"))
    ]
    ticks = [(places[f"p{point:g}"], f"{point:g}") for point in (1, 10, 50, 90, 99, 99.9)]
    return chart(lines, x="percentile", y="s", log_y=True, x_ticks=ticks)


def _percentile_table(report: Mapping[str, Any]) -> str:
    rows = [
        [name, *(report[key].get(f"p{point:g}") for point in POINTS)]
        for name, key in (
            ("TTFT, s", "ttft_s"),
            ("TPOT, s", "tpot_s"),
            ("gap between events, s", "itl_s"),
            ("E2E, s", "e2e_s"),
        )
    ]
    return "<h2>Percentiles</h2>" + table(["of complete requests", *(f"p{point:g}" for point in POINTS)], rows)


def _kinds(report: Mapping[str, Any]) -> str:
    rows = [
        [kind, one["requests"], one["complete"], percent(one["within_slo"]),
         one["ttft_s"].get("p50"), one["ttft_s"].get("p95"),
         _ms(one["tpot_s"].get("p50")), _ms(one["tpot_s"].get("p95")), one["e2e_s"].get("p50"), one["e2e_s"].get("p95")]
        for kind, one in sorted(report["kinds"].items())
    ]  # fmt: skip
    heads = [
        "workload",
        "requests",
        "complete",
        "in time",
        "TTFT s p50",
        "p95",
        "TPOT ms p50",
        "p95",
        "E2E s p50",
        "p95",
    ]
    return "<h2>Workloads</h2>" + table(heads, rows)


def _workers(report: Mapping[str, Any]) -> str:
    if not report["workers"]:
        return "<h2>Workers</h2><p class='soft'>The endpoint does not say who answered.</p>"
    rows = [
        [one["worker"], one["quantization"], one["requests"], percent(one["share"]), one["output_tokens"],
         percent(one["prefix_hit"]), one["mean_batch"], _ms(one["tpot_s"]), _ms(one["expected_tpot_s"])]
        for one in report["workers"]
    ]  # fmt: skip
    heads = [
        "worker",
        "quantization",
        "requests",
        "share",
        "output tokens",
        "prefix hits",
        "mean batch",
        "TPOT ms p50",
        "expected",
    ]
    return "<h2>Workers</h2>" + table(heads, rows)


def _endings(report: Mapping[str, Any]) -> str:
    rows: list[list[object]] = [["complete", report["complete"]], ["continued on another worker", report["continued"]]]
    rows += [[f"shed: {reason}", count] for reason, count in report["shed"].items()]
    rows += [[f"failed: {reason}", count] for reason, count in report["failed"].items()]
    if report["valid_json"] is not None:
        rows.append(["answers that are the JSON object asked for", percent(report["valid_json"])])
    return "<h2>What became of the requests</h2>" + table(["", "requests"], rows)


def _agreement(report: Mapping[str, Any]) -> str:
    if report["agreement"] is None:
        return ""
    rows = [[name, one["here"], one["router"], f"{one['off']:+.2%}" if one["off"] is not None else "-"]
            for name, one in report["agreement"].items()]  # fmt: skip
    return "<h2>The router's own account of the same time</h2>" + table(["", "here", "router", "off by"], rows)


def _generator(report: Mapping[str, Any]) -> str:
    one = report["generator"]
    verdict = '<p class="good">It kept up.</p>' if not one["limits"] else ""
    rows = [["processes", one["processes"]], ["processor, mean of one process", percent(one["cpu_mean"])],
            ["processor, most", percent(one["cpu_most"])],
            ["timers late, ms, p99 of seconds", one["timer_lag_ms_p99"]],
            ["requests sent late, ms, p99", _ms(one["lateness_s"].get("p99"))],
            ["not sent", one["unsent"]]]  # fmt: skip
    return "<h2>The generator</h2>" + verdict + table(["", ""], rows)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
