"""``make bench-decision``: how long a placement decision takes, and the prefix index's part in the event loop's time.

A decision is one ``place``: take in the snapshot that changed since the last one (one load report and one claim),
filter, match the prompt's blocks, score every candidate, pick, predict, and keep what a record needs. Carrying it out
(``dispatched``) happens between the decisions and is not timed. The fleet has 50 or 1,000 workers of all sorts and is
busy, prompts share prefixes, requests have targets. Prints a table, one summary line, and writes
build/bench/decision.json.
"""

import json
import random
import time
from collections import defaultdict, deque
from dataclasses import replace
from pathlib import Path

from loadtest.bench import prefix_index
from protos.contract.ids import RequestId, WorkerId
from protos.contract.worker import Capabilities, Hardware, Load, ModelInstance, Speed
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest, ModelRef, RequestKind, SloTargets
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import WorkerProfile, WorkerState
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.interfaces import Dispatched
from router.scheduling.placement.placer import ComposedPlacer

OUT = Path("build/bench/decision.json")
DECISIONS = 2000
SLOTS = 16
Running = defaultdict[str, deque[Dispatched]]
"""What each worker has; when its slots are full, its oldest request ends."""
WORKERS = (50, 1000)
_QUANTIZATIONS = ("awq", "q4_k_m", "q8_0", "fp16")


def measure(decisions: int = DECISIONS, policy: str = "cost") -> dict[str, float]:
    """Median microseconds per decision, by number of workers."""
    return {str(count): _median_us(count, decisions, policy) for count in WORKERS}


def main() -> None:
    """Measure, print, write."""
    decisions = measure()
    for workers, microseconds in decisions.items():
        print(f"a decision among {workers:>4} workers: {microseconds:6.1f} us (p50)")
    of_the_full = crowded()
    print(f"the same with 900 of 1000 full: {of_the_full:6.1f} us")
    print(f"\nthe prefix index, ms of CPU for {prefix_index.BLOCKS:,} blocks:    in all  slices  longest")
    costs = prefix_index.forgetting()
    for what, cost in costs.items():
        print(f"  {what:45s} {1e3 * cost.total_s:8.1f} {cost.slices:7d} {1e3 * cost.longest_s:8.2f}")
    dispatching = prefix_index.dispatching()
    dispatch_ms, longest_ms = 1e3 * dispatching.median_s, 1e3 * dispatching.longest_s
    bound = f"dispatch of {prefix_index.PROMPT:,} new blocks at the bound"
    print(f"  {bound:45s} {dispatch_ms:8.2f} (p50)   {longest_ms:8.2f}")
    cleared = costs["cleared"].total_s
    longest_s = max(cost.longest_s for what, cost in costs.items() if what != prefix_index.MILLION)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "decision_us_p50": decisions,
        "decision_us_p50_900_of_1000_full": of_the_full,
        "prefix_clear_262144_s": cleared,
        "prefix_expire_262144_s": costs["aged"].total_s,
        "prefix_expire_partly_262144_s": costs["aged in part"].total_s,
        "prefix_longest_slice_s": longest_s,
        "prefix_dispatch_ms": dispatch_ms,
        "prefix_dispatch_max_ms": longest_ms,
    }
    OUT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(
        f"bench-decision: {decisions['50']:.0f} us among 50 workers, {decisions['1000']:.0f} us among 1,000; 262,144 "
        f"blocks cleared in {1e3 * cleared:.0f} ms, at most {1e3 * longest_s:.1f} ms at a time; dispatch at the bound "
        f"{dispatch_ms:.2f} ms"
    )


def crowded() -> float:
    """The same among 1,000 of whom 900 are full, as admission says it."""
    full = frozenset(WorkerId(f"worker-{number}") for number in range(1000) if number % 10)
    return _median_us(1000, DECISIONS, "cost", full)


def _median_us(workers: int, decisions: int, policy: str, full: frozenset[WorkerId] = frozenset()) -> float:
    rng = random.Random(workers)
    running: Running = defaultdict(deque)
    placer = build_placer(policy, rng=random.Random(1))
    snapshot = fleet(workers, rng)
    for number in range(decisions // 10):  # caches and branch predictors warm, as in a running router
        snapshot = _step(placer, snapshot, number, rng, running, full)[0]
    taken = sorted(_step(placer, snapshot, number, rng, running, full)[1] for number in range(decisions))
    return 1e6 * taken[len(taken) // 2]


def _step(
    placer: ComposedPlacer,
    snapshot: FleetSnapshot,
    number: int,
    rng: random.Random,
    running: Running,
    full: frozenset[WorkerId],
) -> tuple[FleetSnapshot, float]:
    """One load report and one decision; the report is made before the clock starts."""
    position = rng.randrange(len(snapshot.workers))
    view = replace(snapshot.workers[position], load=_load(rng))
    workers = (*snapshot.workers[:position], view, *snapshot.workers[position + 1 :])
    snapshot = FleetSnapshot(taken_at=1.0, version=number, workers=workers)
    request = _request(f"{number}-{rng.getrandbits(32)}", rng)
    started = time.perf_counter()
    result = placer.place(request, snapshot, 1.0, avoid=full)
    taken = time.perf_counter() - started
    assert isinstance(result, Placed)
    there = running[result.worker_id]
    there.append(placer.dispatched(request, result, 1.0))
    if len(there) > SLOTS:
        placer.finished(there.popleft(), Outcome(ttft_s=0.5, e2e_s=5.0, completion_tokens=100), 1.0)
    return snapshot, taken


def fleet(count: int, rng: random.Random) -> FleetSnapshot:
    """Workers whose speeds lie within a factor of ten, all serving one model at four quantizations."""
    return FleetSnapshot(taken_at=0.0, version=0, workers=tuple(_worker(i, rng) for i in range(count)))


def _worker(number: int, rng: random.Random) -> WorkerView:
    base = rng.uniform(0.005, 0.05)
    speed = Speed(
        base_s=base,
        per_sequence_s=base / 50,
        per_context_token_s=base / 1e5,
        prefill_tokens_per_s=20.0 / base,
    )
    return WorkerView(
        profile=WorkerProfile(
            worker_id=WorkerId(f"worker-{number}"),
            incarnation="1",
            node=f"node-{number}",
            hardware=Hardware(kind="simulated", name="simulated"),
            engine="simulated",
        ),
        state=WorkerState.READY,
        models=(
            ModelInstance(
                model="model",
                quantization=_QUANTIZATIONS[number % len(_QUANTIZATIONS)],
                context_tokens=32_768,
                slots=SLOTS,
                kv_capacity_tokens=262_144,
                parameters=8_000_000_000,
                speed=speed,
                capabilities=Capabilities(can_continue=True),
            ),
        ),
        load=_load(rng),
        rtt_s=0.001,
    )


def _load(rng: random.Random) -> Load:
    running = rng.randrange(16)
    return Load(
        observed_at=1.0,
        running=running,
        prefill_tokens_pending=rng.randrange(2000),
        context_tokens=1200 * running,
        expected_remaining_tokens=150 * running,
        kv_used=running / 200,
    )


def _request(number: str, rng: random.Random) -> InferenceRequest:
    shared = rng.randrange(20) * 1000  # one of 20 system prompts, half of the prompt
    blocks = (*range(shared, shared + 8), *(rng.getrandbits(64) for _ in range(8)))
    return InferenceRequest(
        request_id=RequestId(f"request-{number}"),
        kind=RequestKind.CHAT,
        model=ModelRef(name="model"),
        prompt_bytes=4096,
        prompt_tokens_estimate=1024,
        block_hashes=blocks,
        arrived_at=1.0,
        slo=SloTargets(ttft_s=2.0, ttft_per_prompt_token_s=0.001, tpot_s=0.1),
    )


if __name__ == "__main__":
    main()
