"""Fleets, loads and requests of every kind, drawn; and what may be placed where, told without the filters' code."""

import random
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from loadtest.simulate.policies import POLICIES
from protos.contract.models.quality import loss
from protos.contract.worker import Capabilities, InstanceState, Load, ModelInstance, Speed
from router.domain.placement import NoCandidate, Placed
from router.domain.request import InferenceRequest, ModelRef, SloTargets
from router.domain.snapshot import FleetSnapshot, Inflight, WorkerView
from router.domain.worker import WorkerState
from router.scheduling.explain.record import DecisionRecord
from router.scheduling.placement.candidates import Floats
from router.scheduling.placement.columns import COLUMNS, Column
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.placement.policies import PolicyTable
from tests.support.curves import H100_8B, H100_70B, curve
from tests.support.fleets import instance, request, snapshot, worker

NOW = 100.0
FORMATS = ["fp16", "awq", "q8_0", "q6_k", "q4_k_m", "q2_k"]

DETERMINISTIC = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DECODE = ((), H100_8B, (), H100_70B)
PREFILL = ((), (), curve((128, 0.136), (512, 0.42)), (), curve((2000, 0.01)))


def _some_curved(speed: Speed) -> Speed:
    """Every second one has a curve of each kind, by what was drawn already: fleets are those of straight lines."""
    number = int(1e6 * (speed.base_s + speed.per_sequence_s))
    return replace(speed, decode_curve=DECODE[number % 4], prefill_curve=PREFILL[number % 5])


times = st.floats(1e-4, 1.0)
speeds = st.builds(
    Speed,
    base_s=times,
    per_sequence_s=st.floats(0.0, 0.05),
    per_context_token_s=st.floats(0.0, 1e-5),
    prefill_tokens_per_s=st.floats(10.0, 1e5),
    prefill_base_s=st.floats(0.0, 0.1),
).map(_some_curved)
loads = st.builds(
    Load,
    observed_at=st.floats(NOW - 2.0, NOW),
    running=st.integers(0, 16),
    waiting=st.integers(0, 16),
    prefill_tokens_pending=st.integers(0, 20_000),
    context_tokens=st.integers(0, 40_000),
    expected_remaining_tokens=st.integers(0, 20_000),
    kv_used=st.floats(0.0, 1.0),
)
claims = st.builds(
    Inflight, requests=st.integers(0, 8), prompt_tokens=st.integers(0, 8_000), output_tokens=st.integers(0, 2_000)
)
abilities = st.sampled_from(
    [Capabilities(can_continue=True, logprobs=True)] * 4
    + [Capabilities(logprobs=True), Capabilities(can_continue=True), Capabilities(can_continue=True, chat=False)]
)
troubles = st.sampled_from(
    [{}] * 12
    + [{"state": one} for one in WorkerState]
    + [{"cordoned": True}, {"suspended_until": NOW + 5.0}, {"suspended_until": NOW - 5.0}, {"probing": True}]
)
"""What may stand in a worker's way, as a view says it."""


@st.composite
def models(draw: st.DrawFn) -> ModelInstance:
    """One loaded model, at any quantization and state."""
    return instance(
        draw(st.sampled_from(FORMATS)),
        model=draw(st.sampled_from(["m", "m", "m", "other"])),
        context_tokens=draw(st.sampled_from([512, 4096, 32_768])),
        slots=draw(st.integers(1, 16)),
        kv_capacity_tokens=draw(st.sampled_from([0, 4096, 65_536])),
        capabilities=draw(abilities),
        speed=draw(speeds),
        state=draw(st.sampled_from([InstanceState.READY] * 8 + list(InstanceState))),
    )


@st.composite
def views(draw: st.DrawFn, name: str) -> WorkerView:
    """One worker, in any state."""
    held = draw(st.lists(models(), min_size=1, max_size=2, unique_by=lambda one: (one.model, one.quantization)))
    return worker(
        name,
        *held,
        load=draw(st.one_of(st.just(Load(observed_at=NOW)), loads)),
        labels=draw(st.sampled_from([{}, {"site": "lab"}, {"site": "home"}])),
        inflight=draw(st.one_of(st.just(Inflight()), claims)),
        rtt_s=draw(st.floats(0.0, 0.2)),
        **draw(troubles),
    )


@st.composite
def fleets(draw: st.DrawFn, *, least: int = 1, most: int = 6) -> FleetSnapshot:
    """A few workers."""
    count = draw(st.integers(least, most))
    return snapshot(*(draw(views(f"w{number}")) for number in range(count)), at=NOW)


@st.composite
def requests(draw: st.DrawFn) -> InferenceRequest:
    """Any demand a client or its tenant may make."""
    tokens = draw(st.integers(1, 6000))
    asked = request(
        draw(st.integers(0, 10**6)),
        max_tokens=draw(st.sampled_from([None, 16, 2000])),
        prompt_tokens_estimate=tokens,
        prompt_bytes=4 * tokens,
        expected_output_tokens=draw(st.integers(1, 500)),
        slo=draw(st.sampled_from([None, SloTargets(ttft_s=2.0, ttft_per_prompt_token_s=0.001, tpot_s=0.1)])),
        arrived_at=NOW - draw(st.floats(0.0, 3.0)),
    )
    demands = draw(st.lists(st.sampled_from(_DEMANDS), max_size=2)) if draw(st.booleans()) else []
    for demand in demands:
        asked = replace(asked, **demand)
    if draw(st.sampled_from([False, False, True])):
        asked = replace(asked, sampling=replace(asked.sampling, logprobs=True))
    return asked


_DEMANDS: list[dict[str, Any]] = [
    {"model": ModelRef(name="m", pinned="q8_0")},
    {"model": ModelRef(name="m", floor="q6_k")},
    {"model": ModelRef(name="m", floor="awq")},
    {"required_labels": (("site", "lab"),)},
    {"continues": True},
    {"never_quantized": True},
]
"""What narrows the choice."""


def why_not(view: WorkerView, held: ModelInstance, asked: InferenceRequest) -> str:
    """Why ``held`` must not answer ``asked``, in the words of the documentation; empty: it may.

    Written without the filters' code, so that both would have to be wrong in the same way.
    """
    limits = [held.context_tokens] + ([held.kv_capacity_tokens] if held.kv_capacity_tokens else [])
    least_tokens = max(asked.sampling.max_tokens or 0, 1)  # the prompt's are a guess, and nobody is refused by one
    busy = view.load.running + view.load.waiting + view.inflight.requests > 0
    ref, able = asked.model, held.capabilities
    broken = {
        "model": held.model != ref.name,
        "state": view.state is not WorkerState.READY or held.state is not InstanceState.READY,
        "cordon": view.cordoned,
        "pin": ref.pinned is not None and held.quantization != ref.pinned,
        "floor": ref.floor is not None and loss(70e9, held.quantization) > loss(70e9, ref.floor),
        "never quantized": asked.never_quantized and held.quantization != "fp16",
        "labels": not set(asked.required_labels) <= set(view.profile.labels),
        "continue": asked.continues and not able.can_continue,
        "chat": not able.chat,
        "logprobs": asked.sampling.logprobs and not able.logprobs,
        "suspended": view.suspended_until > NOW,
        "probing": view.probing and busy,
        "context": min(limits) < least_tokens,
    }
    return ", ".join(name for name, true in broken.items() if true)


def placer(
    policy: str = "cost", *, policies: PolicyTable = POLICIES, seed: int = 1, **parameters: Any
) -> ComposedPlacer:
    """A fresh one, with a fixed seed."""
    return build_placer(policy, policies=policies, rng=random.Random(seed), **parameters)


def chosen(fleet: FleetSnapshot, placed: Placed) -> tuple[WorkerView, ModelInstance]:
    """Who was placed."""
    view = next(one for one in fleet.workers if one.worker_id == placed.worker_id)
    return view, next(
        one for one in view.models if (one.model, one.quantization) == (placed.model, placed.quantization)
    )


def recorded(placing: ComposedPlacer, fleet: FleetSnapshot, asked: InferenceRequest) -> DecisionRecord | None:
    """The decision's record, as JSON gives it back; None: nobody could take the request."""
    outcome = placing.place(asked, fleet, NOW)
    if isinstance(outcome, NoCandidate):
        return None
    placing.dispatched(asked, outcome, NOW)
    explained = placing.explain(asked.request_id)
    assert explained is not None
    return msgspec.json.decode(msgspec.json.encode(explained["records"][0]), type=DecisionRecord)


def cost_of(record: DecisionRecord) -> float:
    """Predicted cost of the pick."""
    cost = next(
        one.cost
        for one in record.candidates
        if (one.worker, one.quantization) == (record.picked, record.picked_quantization)
    )
    assert cost is not None
    return cost


def figures(context_limit: float = 4096.0, kv_free: float = 4096.0, suspended_until: float = 0.0) -> Floats:
    """Of one candidate that passes, as far as not said."""
    column = np.zeros(COLUMNS)
    column[[Column.CONTEXT_LIMIT, Column.KV_FREE, Column.SUSPENDED_UNTIL]] = context_limit, kv_free, suspended_until
    return column
