"""``make bench-generators``: do two load generators tell the same of one endpoint? Ours, and guidellm in turns.

A router of ours with one simulated worker whose steps take 100 ms, 1 and 8 users in a closed loop, prompts of 400 words
and answers of 40 tokens: the same requests by both. What they differ by is what they themselves take.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.bench.figures import keep
from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.house.pool import MODEL, Pool
from loadtest.bench.router.contenders import PEERS, QUIET
from loadtest.locust.cli import run_locust
from loadtest.locust.options import Options
from loadtest.locust.workloads.text import words

FOLDER = Path("build/bench/generators")
PROMPT_WORDS, TOKENS = 400, 40
STEP_S = 0.1
USERS = (1, 8)
FIGURES = ("ttft_ms_p50", "tpot_ms_p50", "prompt_tokens", "output_tokens")
TIMEOUT_S = 200.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of each run")
    options = parser.parse_args()
    if not (PEERS / "guidellm").exists():
        sys.exit("bench-generators: guidellm is not installed; run make env-peers")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    asked = [{"prompt": words(PROMPT_WORDS, rng), "output_tokens_count": TOKENS} for _ in range(500)]
    (FOLDER / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked), encoding="utf-8")
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    lines += [f"2026-01-01 00:{place // 60:02}:{place % 60:02},{PROMPT_WORDS},{TOKENS}" for place in range(3000)]
    (FOLDER / "prompts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with Pool(Checkout.here(), FOLDER / "pool", step_s=STEP_S) as pool:
        for number in range(options.rounds):
            for users in USERS:
                for name, measure in (("ours", _ours), ("guidellm", _guidellm)):
                    figures = measure(pool.url, users, options.duration, number)
                    found.setdefault((name, users), []).append(figures)
                    print(f"  round {number + 1}, {users} users, {name}: {figures}", file=sys.stderr)
    rows = [_row(users, found["ours", users], found["guidellm", users]) for users in USERS]
    for row in rows:
        for figure in FIGURES:
            ours, theirs, off = row[figure]
            print(f"{row['users']} users  {figure:<14} ours {ours:9.2f}  guidellm {theirs:9.2f}  off by {off:+.2%}")
    worst = max(abs(row[figure][2]) for row in rows for figure in FIGURES)
    path = keep("generators", {"rows": rows, "worst_off": worst, "rounds": options.rounds})
    print(f"bench-generators: the two differ by {worst:.2%} at most; {path}")


def _row(users: int, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of both over the rounds, and how far ours is off."""
    row: dict[str, Any] = {"users": users}
    for figure in FIGURES:
        one, other = (median(run[figure] for run in runs) for runs in (ours, theirs))
        row[figure] = [round(one, 3), round(other, 3), round(one / other - 1.0, 5)]
    return row


def _ours(url: str, users: int, duration_s: float, number: int) -> dict[str, float]:
    folder = FOLDER / f"ours-{users}-{number}"
    options = Options(url=url, model=MODEL, workload=str(FOLDER / "prompts.csv"), closed=users, duration_s=duration_s,
                      seed=number + 1, out=str(folder))  # fmt: skip
    if run_locust(options, quiet=True) != 0:
        raise RuntimeError("the load generator failed")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        "ttft_ms_p50": 1e3 * report["sent_ttft_s"]["p50"],
        "tpot_ms_p50": 1e3 * report["tpot_s"]["p50"],
        "prompt_tokens": report["prompt_tokens"] / report["complete"],
        "output_tokens": report["output_tokens"] / report["complete"],
    }


def _guidellm(url: str, users: int, duration_s: float, number: int) -> dict[str, float]:
    out = FOLDER / f"guidellm-{users}-{number}.json"
    command = [
        str((PEERS / "guidellm").absolute()), "run", "--backend", f"kind=openai_http,target={url},model={MODEL}",
        "--profile", f"kind=concurrent,streams={users}", "--data", f"kind=json_file,path={FOLDER / 'prompts.jsonl'}",
        "--constraint", f"kind=max_duration,seconds={duration_s}", "--output", f"kind=json,path={out}",
        "--disable-console",
    ]  # fmt: skip
    subprocess.run(command, env={**os.environ, **QUIET}, timeout=TIMEOUT_S, check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads(out.read_text(encoding="utf-8"))["benchmarks"][0]["metrics"]
    return {
        "ttft_ms_p50": metrics["time_to_first_token_ms"]["successful"]["median"],
        "tpot_ms_p50": metrics["inter_token_latency_ms"]["successful"]["median"],  # theirs, without the first token
        "prompt_tokens": metrics["prompt_token_count"]["successful"]["mean"],
        "output_tokens": metrics["output_token_count"]["successful"]["mean"],
    }


if __name__ == "__main__":
    main()
