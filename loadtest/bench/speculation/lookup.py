"""The real model, alone and four at a time, greedy and sampled: tokens a second with and without speculation.

Time is the engine thread's own processor time, so that whoever else uses the machine is not measured; one thread
computes. Answers are compared token by token.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.bench.figures import keep, known
from loadtest.bench.speculation.traffic import KINDS
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job, Sampling
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.batch.batching import Batching
from workers.engines.llama_cpp.batch.sequence import Preparation
from workers.engines.llama_cpp.options import options_of
from workers.engines.llama_cpp.runner import Runner

SLOTS = 4
CONTEXT_TOKENS = 1024
OWN_TEXT = "own text"


@dataclass(slots=True)
class Side:
    """One way of running the model."""

    batching: Batching
    preparation: Preparation


@dataclass(slots=True)
class Outcome:
    """Of one round: decoding alone, prefill left out."""

    tokens_per_s: float
    tokens_per_step: float  # of each sequence
    answers: dict[str, str]


@contextmanager
def side(path: Path, *, speculate: bool) -> Iterator[Side]:
    """The model loaded, stepped by whoever holds it."""
    told: dict[str, str | int | float | bool] = {"speculate": speculate, "threads": 1, "exact": True}
    spec = ModelSpec(name="m", path=str(path), slots=SLOTS, context_tokens=CONTEXT_TOKENS, options=told)
    runner = Runner(spec, options_of(spec), lambda _: None, lambda _: None)
    batching, preparation = runner.by_hand()
    try:
        yield Side(batching, preparation)
    finally:
        batching.model.close()


def run(one: Side, turns: Sequence[str], streams: int, sampling: Sampling, number: int, owner: str = "") -> Outcome:
    """``streams`` answers to a conversation at once; each round asks anew, so that nothing is cached.

    ``owner``: whose recent answers may propose.
    """
    batching = one.batching
    for stream in range(streams):
        numbered = (f"{number}.{stream} {turns[0]}", *turns[1:])
        messages = tuple(
            ChatMessage(role="assistant" if at % 2 else "user", content=text) for at, text in enumerate(numbered)
        )
        job = Job(
            request_id=RequestId(f"r{stream}"), attempt=number, model="m", quantization="q",
            messages=messages, sampling=sampling, cache_salt=owner,
        )  # fmt: skip
        batching.add(one.preparation.prepare(job))
    answers: dict[str, str] = {}
    tokens, steps, cpu_s = 0, 0, 0.0
    while batching.busy:
        before = time.thread_time()
        result = batching.step()
        took = time.thread_time() - before + batching.idle_s
        for delta in result.deltas:
            answers[delta.request_id] = answers.get(delta.request_id, "") + delta.text
        if not result.load.last_step_prefill_tokens:
            cpu_s, steps = cpu_s + took, steps + result.load.last_step_batch
            tokens += sum(delta.token_count for delta in result.deltas)
    if not tokens:
        raise SystemExit(f"nothing to measure: the answer to {turns[-1]!r} ended with its first token")
    return Outcome(tokens / cpu_s, tokens / steps, answers)


def measure(options: argparse.Namespace) -> str:
    """The table."""
    path = Path(options.model)
    rows: list[dict[str, Any]] = []
    print(f"speculation without a draft model, {path.name}, one thread, {options.rounds} rounds in turn:")
    print(
        f"{'traffic':20} {'streams':>7} {'temp.':>5} {'speedup':>8} {'spread':>12} {'tokens/step':>11} {'accepted':>9}"
    )
    with side(path, speculate=False) as plain, side(path, speculate=True) as quick:
        for traffic in options.traffic or KINDS:
            for streams in (1, SLOTS):
                for temperature in (0.0, 1.0):
                    row = _compare(plain, quick, KINDS[traffic][0], streams, temperature, options)
                    rows.append({"traffic": traffic, "drafter": OWN_TEXT, "where": "in process", **row})
                    print(
                        f"{traffic:20} {streams:7} {temperature:5} {row['speedup']:8.2f} "
                        f"{row['speedup_least']:5.2f}-{row['speedup_most']:5.2f} {row['tokens_per_step']:12.2f} "
                        f"{row['acceptance']:9.0%}"
                    )
    measured = {row["traffic"] for row in rows}
    others = [
        row
        for row in known("speculation").get("rows", [])
        if row["drafter"] != OWN_TEXT or row["traffic"] not in measured
    ]
    keep("speculation", {"rows": rows + others})
    worst = min(row["speedup"] for row in rows)
    repeated = [row["speedup"] for row in rows if KINDS[row["traffic"]][1] and row["temperature"] == 0.0]
    greedy = f"repetitive, greedy: {statistics.median(repeated):.2f}x (median of rows); " if repeated else ""
    return f"{greedy}worst row {worst:.2f}x"


def _compare(
    plain: Side, quick: Side, turns: Sequence[str], streams: int, temperature: float, options: argparse.Namespace
) -> dict[str, float]:
    ratios, per_step = [], []
    counts = quick.batching.speculated
    proposed, accepted = counts.proposed, counts.accepted
    for number in range(options.rounds):
        sampling = Sampling(temperature=temperature, seed=number, max_tokens=options.tokens)
        sides = (plain, quick) if number % 2 else (quick, plain)
        got = {id(one): run(one, turns, streams, sampling, number) for one in sides}
        without, with_it = got[id(plain)], got[id(quick)]
        if without.answers != with_it.answers:
            raise SystemExit(f"the answers differ: {without.answers}\n{with_it.answers}")
        ratios.append(with_it.tokens_per_s / without.tokens_per_s)
        per_step.append(with_it.tokens_per_step)
    proposed, accepted = counts.proposed - proposed, counts.accepted - accepted
    return {
        "streams": streams, "temperature": temperature, "speedup": statistics.median(ratios),
        "speedup_least": min(ratios), "speedup_most": max(ratios), "tokens_per_step": statistics.median(per_step),
        "acceptance": accepted / proposed if proposed else 0.0,
    }  # fmt: skip
