"""The run on one screen of a terminal."""

from collections.abc import Mapping
from typing import Any

from loadtest.locust.report.page import percent, show


def summary(report: Mapping[str, Any]) -> str:
    """Plain text, a line a fact, the report's path last."""
    run, shed, failed = report["run"], report["shed"], report["failed"]
    knee = "" if report["knee_per_s"] is None else f", knee at {show(report['knee_per_s'])}"
    goodput = f"{show(report['goodput_per_s'])} of {show(report['offered_per_s'])} requests/s offered"
    became = f"{report['complete']} complete, {sum(shed.values())} shed{_reasons(shed)}"
    became += f", {sum(failed.values())} failed{_reasons(failed)}, {report['continued']} continued"
    prompts = f"{report['prompt_tokens']:,} in ({percent(report['prefix_hit'])} cached)"
    lines = [
        "",
        f"{run['label']}: {run['sent']}",
        f"in time: {report['slo']}",
        "",
        f"  goodput   {goodput}, {percent(report['within_slo'])} in time{knee}",
        f"  requests  {report['requests']}: {became}",
        f"  tokens    {prompts}, {report['output_tokens']:,} out, {show(report['output_tokens_per_s'])} out/s",
        "",
        "               p50     p90     p95     p99",
    ]
    for name, key in (("TTFT s", "ttft_s"), ("TPOT s", "tpot_s"), ("gaps s", "itl_s"), ("E2E s", "e2e_s")):
        shown = (show(report[key].get(point)) for point in ("p50", "p90", "p95", "p99"))
        lines.append(f"  {name:<8}" + "".join(f"{one:>8}" for one in shown))
    if report["workers"]:
        lines += ["", "  worker                    quantization  requests  share   TPOT ms  expected"]
        lines += [
            f"  {one['worker'][:24]:<24}  {one['quantization'][:12]:<12}  {one['requests']:>8}"
            f"  {percent(one['share']):>5}   {show(_ms(one['tpot_s'])):>7}  {show(_ms(one['expected_tpot_s'])):>8}"
            for one in report["workers"]
        ]
    lines.append("")
    if report["agreement"]:
        worst = max((abs(one["off"]) for one in report["agreement"].values() if one["off"] is not None), default=0.0)
        lines.append(f"  the router's own account differs by {worst:.2%} at most ({', '.join(report['agreement'])})")
    limits = report["generator"]["limits"]
    lines += [f"  THE GENERATOR WAS THE LIMIT: {one}" for one in limits]
    if not limits:
        lines.append("  the generator kept up")
    lines += [f"  not taken by the endpoint: {name} ({words[:90]})" for name, words in run["refused"].items()]
    lines += [f"report: {run['page']}", ""]
    return "\n".join(lines)


def _reasons(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {reason}' for reason, count in counts.items())})" if counts else ""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
