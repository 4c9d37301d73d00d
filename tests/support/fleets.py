"""Workers, snapshots and requests for tests of placement and admission, with everything but the point defaulted."""

from dataclasses import replace
from typing import Any

from protos.contract.ids import RequestId, WorkerId
from protos.contract.request import Sampling
from protos.contract.worker import Capabilities, Hardware, Load, ModelInstance, Speed
from router.domain.ids import Tenant
from router.domain.request import InferenceRequest, ModelRef, RequestKind, SloTargets
from router.domain.snapshot import FleetSnapshot, Inflight, WorkerView
from router.domain.worker import WorkerProfile, WorkerState

SPEED = Speed(base_s=0.02, per_sequence_s=0.0005, per_context_token_s=1e-7, prefill_tokens_per_s=2000.0)
TARGETS = SloTargets(ttft_s=2.0, ttft_per_prompt_token_s=0.001, tpot_s=0.1)


def faster(speed: Speed, factor: float) -> Speed:
    """The same machine, ``factor`` times as fast in everything."""
    return Speed(
        base_s=speed.base_s / factor,
        per_sequence_s=speed.per_sequence_s / factor,
        per_context_token_s=speed.per_context_token_s / factor,
        prefill_tokens_per_s=speed.prefill_tokens_per_s * factor,
        prefill_base_s=speed.prefill_base_s / factor,
        decode_curve=tuple(replace(one, seconds=one.seconds / factor) for one in speed.decode_curve),
        prefill_curve=tuple(replace(one, seconds=one.seconds / factor) for one in speed.prefill_curve),
    )


def instance(quantization: str = "q8_0", **changes: Any) -> ModelInstance:
    """One loaded model."""
    facts: dict[str, Any] = {
        "model": "m",
        "quantization": quantization,
        "context_tokens": 8192,
        "slots": 8,
        "kv_capacity_tokens": 65_536,
        "parameters": 8_000_000_000,
        "speed": SPEED,
        "capabilities": Capabilities(can_continue=True, logprobs=True),
    }
    return ModelInstance(**{**facts, **changes})


def worker(
    name: str,
    *models: ModelInstance,
    load: Load | None = None,
    labels: dict[str, str] | None = None,
    incarnation: str = "1",
    **changes: Any,
) -> WorkerView:
    """One worker, idle and ready unless told otherwise; its node is called as its id."""
    profile = WorkerProfile(
        worker_id=WorkerId(name),
        incarnation=incarnation,
        node=name,
        hardware=Hardware(kind="simulated", name="simulated"),
        engine="simulated",
        labels=tuple((labels or {}).items()),
    )
    facts: dict[str, Any] = {"state": WorkerState.READY, "models": models or (instance(),), "load": load or Load()}
    return WorkerView(profile=profile, **{**facts, **changes})


def snapshot(*workers: WorkerView, at: float = 0.0) -> FleetSnapshot:
    """These workers, seen at ``at``."""
    return FleetSnapshot(taken_at=at, version=0, workers=workers)


def changed(fleet: FleetSnapshot, name: str, **changes: Any) -> FleetSnapshot:
    """The snapshot with one worker's view changed, the others' views the same objects."""
    workers = tuple(replace(view, **changes) if view.worker_id == name else view for view in fleet.workers)
    return replace(fleet, workers=workers, version=fleet.version + 1)


def claimed(fleet: FleetSnapshot, name: str, requests: int = 1, tokens: int = 100) -> FleetSnapshot:
    """The snapshot with claims of this router added to one worker."""
    view = next(view for view in fleet.workers if view.worker_id == name)
    claims = view.inflight
    more = Inflight(
        requests=claims.requests + requests,
        prompt_tokens=claims.prompt_tokens + requests * tokens,
        output_tokens=claims.output_tokens + requests * 100,
    )
    return changed(fleet, name, inflight=more)


def request(number: int | str = 0, **changes: Any) -> InferenceRequest:
    """A chat request for model ``m`` of 1,000 prompt tokens; ``max_tokens`` is a shorthand."""
    sampling = Sampling(max_tokens=changes.pop("max_tokens", None), ignore_eos=changes.pop("ignore_eos", False))
    facts: dict[str, Any] = {
        "request_id": RequestId(f"r{number}"),
        "kind": RequestKind.CHAT,
        "model": ModelRef(name="m"),
        "sampling": sampling,
        "tenant": Tenant("t"),
        "prompt_bytes": 4000,
        "prompt_tokens_estimate": 1000,
    }
    return InferenceRequest(**{**facts, **changes})
