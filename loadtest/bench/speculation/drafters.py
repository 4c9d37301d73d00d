"""A Q4_0 model drafting for the Q8_0 one: in the target's process, in another over gRPC, and behind a slower network.

Time is what the engine's thread computes and what it waits for proposals: whoever else uses the machine's processors is
not measured beside that. Answers are compared token by token. ``fixed`` rows verify three proposals each round whether
that pays or not: what is accepted; the others leave it to the governor: what is lost where it does not pay.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from loadtest.bench.figures import FOLDER, keep
from loadtest.bench.speculation.draft_process import TARGET
from loadtest.bench.speculation.far_away import far_away
from loadtest.bench.speculation.lookup import CONTEXT_TOKENS, SLOTS, Outcome, Side, run, side
from loadtest.bench.speculation.traffic import KINDS
from protos.contract.ids import WorkerId
from protos.contract.request import Sampling
from workers.drafting.client import RemoteDrafter
from workers.drafting.link import DraftLink
from workers.engines.llama_cpp.drafting.local import local_drafter
from workers.models.smollm2 import make
from workers.speculation.draft_use import DraftUse

LENGTH = 3
TRAFFIC = ("prose", "explanation", "JSON from a table")
ADDED_MS = (10, 50)
REACHED_WITHIN_S = 30.0
IN_PROCESS, OVER_GRPC = "in process", "another process"


def measure(options: argparse.Namespace) -> str:
    """The table."""
    path = Path(options.model)
    draft = make(path.parent, ["q4_0"])["q4_0"] if options.draft is None else Path(options.draft)
    rows: list[dict[str, Any]] = []
    print(f"{draft.name} drafts for {path.name}, one thread each, {options.rounds} rounds in turn:")
    headings = ("traffic", 18), ("where", 26), ("asked", 9), ("speedup", 8), ("tokens/step", 12), ("accepted", 9)
    print("".join(f"{name:<{width}}" for name, width in headings) + "beside compute")
    with ExitStack() as stack:
        plain = stack.enter_context(side(path, speculate=True))
        quick = stack.enter_context(side(path, speculate=True))
        port = stack.enter_context(draft_process(draft))
        numbers = itertools.count(0, options.rounds)  # everybody asks once: nobody remembers an answer
        for where, drafter in drafters(stack, quick, draft, port):
            for fixed in (LENGTH, 0):
                for traffic in TRAFFIC if fixed else (*TRAFFIC, "rewrite a file"):
                    use = quick.batching.use_drafter(drafter, fixed)
                    assert use is not None
                    row: dict[str, Any] = {**_compare(plain, quick, use, KINDS[traffic][0], next(numbers), options)}
                    row |= {"traffic": traffic, "drafter": draft.stem, "where": where, "fixed": fixed}
                    row["beside_compute_ms"] = 1e3 * drafter.pace.usual_trip_s
                    rows.append(row)
                    print(
                        f"{traffic:18}{where:26}{fixed or 'governed':<9}{row['speedup']:<8.2f}"
                        f"{row['tokens_per_step']:<12.2f}{row['acceptance']:<9.0%}{row['beside_compute_ms']:.2f} ms"
                    )
            quick.batching.use_drafter(None)
    known = (
        json.loads((FOLDER / "speculation.json").read_text())["rows"] if (FOLDER / "speculation.json").exists() else []
    )
    keep("speculation", {"rows": [row for row in known if "fixed" not in row] + rows})
    return _summary(rows)


def _summary(rows: list[dict[str, Any]]) -> str:
    fixed = [row for row in rows if row["fixed"]]
    prose = [row["acceptance"] for row in fixed if row["traffic"] == "prose"]
    over = [row["beside_compute_ms"] for row in fixed if row["where"] == OVER_GRPC]
    worst = min(row["speedup"] for row in rows if not row["fixed"])
    return (
        f"prose at {LENGTH}: {statistics.median(prose):.0%} accepted; gRPC adds {statistics.median(over):.2f} ms to a "
        f"round; governed, worst row {worst:.2f}x"
    )


def drafters(stack: ExitStack, quick: Side, draft: Path, port: int) -> Iterator[tuple[str, RemoteDrafter]]:
    """Each place, one after the other; each is closed once its rows are done."""
    model, settings = quick.batching.model, quick.batching.options
    local = local_drafter(draft, model, settings)
    stack.callback(local.close)
    yield IN_PROCESS, local
    local.close()
    for added_ms in (0, *ADDED_MS):
        with ExitStack() as network:
            there = network.enter_context(far_away(port, added_ms / 1e3)) if added_ms else port
            link = DraftLink(
                address=f"127.0.0.1:{there}", draft_worker_id=WorkerId("draft"), own_worker_id=WorkerId(TARGET),
                tokenizer_fingerprint=model.tokenizer_fingerprint(),
            )  # fmt: skip
            remote = RemoteDrafter(link, model.vocab_size)
            network.callback(remote.close)
            _until_reached(remote)
            yield OVER_GRPC + (f", {added_ms} ms away" if added_ms else ""), remote


def _until_reached(drafter: RemoteDrafter) -> None:
    deadline = time.monotonic() + REACHED_WITHIN_S
    while drafter.costs.paused:
        if time.monotonic() > deadline:
            raise SystemExit(f"the draft is not reached: {drafter.costs.paused}")
        time.sleep(0.01)


@contextmanager
def draft_process(model: Path) -> Iterator[int]:
    """Its port."""
    command = [
        sys.executable, "-m", "loadtest.bench.speculation.draft_process", str(model), "--slots", str(SLOTS),
        "--context", str(CONTEXT_TOKENS),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            for line in process.stdout:
                if line.startswith("127.0.0.1:"):
                    yield int(line.strip().rpartition(":")[2])
                    break
            else:
                raise SystemExit(f"the draft process ended with {process.wait()}")
        finally:
            process.stdin.close()


def _compare(
    plain: Side, quick: Side, use: DraftUse, turns: Sequence[str], first: int, options: argparse.Namespace
) -> dict[str, float]:
    """One stream, greedy; against the same engine with its text's own proposals alone."""
    ratios, per_step = [], []
    for number in range(first, first + options.rounds):
        sampling = Sampling(temperature=0.0, max_tokens=options.tokens)
        got: dict[int, Outcome] = {}
        for one in (plain, quick) if number % 2 else (quick, plain):
            got[id(one)] = run(one, turns, 1, sampling, number, owner=str(number))
        without, with_it = got[id(plain)], got[id(quick)]
        if without.answers != with_it.answers:
            raise SystemExit(f"the answers differ: {without.answers}\n{with_it.answers}")
        ratios.append(with_it.tokens_per_s / without.tokens_per_s)
        per_step.append(with_it.tokens_per_step)
    return {
        "streams": 1, "temperature": 0.0, "speedup": statistics.median(ratios), "speedup_least": min(ratios),
        "speedup_most": max(ratios), "tokens_per_step": statistics.median(per_step),
        "acceptance": use.accepted / use.proposed if use.proposed else 0.0,
    }  # fmt: skip
