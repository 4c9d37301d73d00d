"""The fleet as ``/admin/fleet`` shows it: plain JSON values, made from a snapshot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from protos.contract.events import DraftReport, FetchProgress
from protos.contract.ids import WorkerId
from protos.contract.joining.versions import own_version
from protos.contract.worker import DRAFT_ROLE, Capabilities, Hardware, ModelInstance, Speed
from router.domain.snapshot import FleetSnapshot, SetAside, WorkerView
from router.speculation.notes import NO_NOTES, DraftNotes

Fetches = Sequence[tuple[str, FetchProgress]]


def fleet_body(fleet: FleetSnapshot, notes: DraftNotes = NO_NOTES, fetches: Fetches = ()) -> dict[str, Any]:
    """``{"workers": [...]}``, in the order of their node names. ``notes``: who drafts for whom, and why not;
    ``fetches``: models' files on their way, with their nodes.
    """
    names = {view.worker_id: view.profile.node for view in fleet.workers}
    views = sorted(fleet.workers, key=lambda view: (view.profile.node, view.worker_id))
    return {
        "version": fleet.version,
        "allsorts": own_version(),
        "workers": [_worker(view, fleet.taken_at, names, notes) for view in views],
        "fetches": [{"node": node, **asdict(one)} for node, one in fetches],
    }


def _worker(view: WorkerView, now: float, names: Mapping[WorkerId, str], notes: DraftNotes) -> dict[str, Any]:
    profile, load = view.profile, view.load
    return {
        "node": profile.node,
        "worker_id": view.worker_id,
        "state": str(view.state),
        "away_reason": view.away_reason,
        "cordoned": view.cordoned,
        "suspended_s": max(0.0, view.suspended_until - now) if math.isfinite(view.suspended_until) else 0.0,
        "suspended_reason": view.suspended_reason if view.suspended_until > now else "",
        "engine": profile.engine,
        "engine_version": profile.engine_version,
        "platform": profile.platform,
        "version": profile.version,
        "protocol_version": profile.protocol_version,
        "hardware": _hardware(profile.hardware),
        "labels": dict(profile.labels),
        "role": DRAFT_ROLE if profile.draft_address else "serve",
        "takes_models": profile.takes_models,
        "memory_limit_bytes": profile.memory_limit_bytes,
        "models": [
            _model(instance, view.set_aside.get(instance.key), now) for instance in (*view.models, *view.drafts)
        ],
        "drafts": [_draft(report, names) for report in view.drafting],
        "drafts_for": sorted(names.get(one, one) for one in notes.drafts_for.get(view.worker_id, ())),
        "draft_reason": notes.reasons.get(view.worker_id, ""),
        "running": load.running,
        "waiting": load.waiting,
        "inflight": view.inflight.requests,
        "prefill_tokens_pending": load.prefill_tokens_pending,
        "context_tokens": load.context_tokens,
        "expected_remaining_tokens": load.expected_remaining_tokens,
        "kv_used": load.kv_used,
        "tokens_per_s": load.tokens_per_s,
        "draft_rounds": load.draft_rounds,
        "draft_proposed": load.draft_proposed,
        "draft_accepted": load.draft_accepted,
        "step_sequence": load.step_sequence,
        "load_age_s": max(0.0, now - load.observed_at) if load.observed_at else None,
        "rtt_s": view.rtt_s,
        "price_s": load.price_s,
    }


def drafts_body(fleet: FleetSnapshot) -> list[dict[str, Any]]:
    """How every target gets on with its draft, with the target's node; empty where nobody drafts."""
    names = {view.worker_id: view.profile.node for view in fleet.workers}
    return [{"node": view.profile.node, **_draft(report, names)} for view in fleet.workers for report in view.drafting]


def _draft(report: DraftReport, names: Mapping[WorkerId, str]) -> dict[str, Any]:
    """How a model gets on with its draft; mean acceptance length is the glossary's."""
    return {
        "model": report.model,
        "quantization": report.quantization,
        "draft": names.get(report.draft_worker_id, report.draft_worker_id),
        "rounds": report.rounds,
        "proposed": report.proposed,
        "accepted": report.accepted,
        "mean_acceptance_length": 1.0 + report.accepted / report.rounds if report.rounds else None,
        "late": report.late,
        "wasted_s": report.wasted_s,
        "rtt_s": report.rtt_s,
        "token_s": report.token_s,
        "predicted_gain": report.predicted_gain,
        "measured_gain": report.measured_gain or None,
        "paused": report.paused,
    }


def _hardware(hardware: Hardware) -> dict[str, Any]:
    return {
        "kind": hardware.kind,
        "name": hardware.name,
        "count": hardware.count,
        "memory_bytes": hardware.memory_bytes,
        "usable_memory_bytes": hardware.usable_memory_bytes,
        "bandwidth_bytes_per_s": hardware.bandwidth_bytes_per_s,
        "cores": hardware.cores,
        "compute_capability": hardware.compute_capability,
        "interconnect": hardware.interconnect,
        "on_battery": hardware.on_battery,
        "low_power": hardware.low_power,
        "details": dict(hardware.details),
    }


def _model(instance: ModelInstance, held: SetAside | None, now: float) -> dict[str, Any]:
    return {
        "model": instance.model,
        "quantization": instance.quantization,
        "state": str(instance.state),
        "error": instance.error,
        "suspended_s": max(0.0, held.until - now) if held is not None else 0.0,
        "suspended_reason": held.reason if held is not None and held.until > now else "",
        "slots": instance.slots,
        "context": instance.context_tokens,
        "format": instance.format,
        "bits_per_weight": instance.bits_per_weight,
        "weights_bytes": instance.weights_bytes,
        "parameters": instance.parameters,
        "kv_capacity_tokens": instance.kv_capacity_tokens,
        "lineage": instance.lineage,
        "perplexity_ratio": instance.perplexity_ratio,
        "file": instance.file,
        "content": instance.content,
        "speculates": instance.speculates,
        "capabilities": _capabilities(instance.capabilities),
        "speed": _speed(instance.speed),
    }


def _capabilities(able: Capabilities) -> dict[str, Any]:
    named = ("can_continue", "can_score", "can_embed", "logprobs", "seed", "chat", "tools", "vision", "reasoning")
    return {name: getattr(able, name) for name in named} | {"structured_output": [str(one) for one in able.grammars]}


def _speed(speed: Speed | None) -> dict[str, Any] | None:
    if speed is None:
        return None
    return {
        "measured": speed.measured,
        "base_s": speed.base_s,
        "per_sequence_s": speed.per_sequence_s,
        "per_context_token_s": speed.per_context_token_s,
        "prefill_tokens_per_s": speed.prefill_tokens_per_s,
        "prefill_base_s": speed.prefill_base_s,
        "decode_curve": [(one.at, one.seconds) for one in speed.decode_curve],
        "prefill_curve": [(one.at, one.seconds) for one in speed.prefill_curve],
        "decode_tokens_per_s": speed.stream_tokens_per_s or None,
    }
