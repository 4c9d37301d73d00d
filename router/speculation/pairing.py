"""Which draft proposes to which target: same tokenizer, near and fast first, within what a draft can hold. Pure.

A pair that works stays: another draft takes its place only where a round would take a good deal less, and not soon
after the last change. A pair that does not is held back for a while, ever longer; then it is tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protos.contract.ids import WorkerId

ModelKey = tuple[str, str]
"""Model and quantization."""

TargetKey = tuple[WorkerId, ModelKey]

ROUND_TOKENS = 4
"""Proposals for which drafts are compared."""

SLOTS_SHARED = 2.0
"""Sequences of targets for each that a draft holds: not all of them run at once."""

SWITCH_GAIN = 0.6
"""Another draft must need less than this share of a round's time."""

SETTLED_S = 30.0
"""A pair stands at least so long before a faster draft is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model on a worker that takes drafts."""

    worker_id: WorkerId
    key: ModelKey
    tokenizer: str
    weights_bytes: int
    slots: int
    rtt_s: float  # to this router


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A model on a draft worker."""

    worker_id: WorkerId
    node: str
    key: ModelKey
    tokenizer: str
    address: str
    weights_bytes: int
    slots: int
    rtt_s: float
    token_s: float
    running: int  # sequences it drafts for now


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A target's draft, and since when."""

    draft_id: WorkerId
    draft_key: ModelKey
    address: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A pair that does not work, for a while."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides: measured round trips and pairs held back, both by target worker and draft worker."""

    rtts: Mapping[tuple[WorkerId, WorkerId], float] = field(default_factory=dict)
    held: Mapping[tuple[WorkerId, WorkerId], Held] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Who drafts for whom, and why targets and drafts go without."""

    pairs: Mapping[TargetKey, Pair]
    without: Mapping[TargetKey, str]
    idle: Mapping[WorkerId, str]


def pair(
    targets: Sequence[Target], drafts: Sequence[Draft], standing: Mapping[TargetKey, Pair], known: Known, now: float
) -> Paired:
    """The pairs from now on."""
    room = {(one.worker_id, one.key): SLOTS_SHARED * one.slots for one in drafts}
    pairs: dict[TargetKey, Pair] = {}
    without: dict[TargetKey, str] = {}
    for target in sorted(targets, key=lambda one: _rank(one, standing)):
        key = (target.worker_id, target.key)
        found, reason = _best(target, drafts, room, standing.get(key), known, now)
        if found is None:
            without[key] = reason
            continue
        stands = standing.get(key)
        same = stands is not None and (stands.draft_id, stands.draft_key) == (found.worker_id, found.key)
        since = stands.since if same and stands is not None else now
        room[found.worker_id, found.key] -= target.slots
        pairs[key] = Pair(draft_id=found.worker_id, draft_key=found.key, address=found.address, since=since)
    return Paired(pairs=pairs, without=without, idle=_idle(drafts, targets, pairs.values(), known, now))


def _rank(target: Target, standing: Mapping[TargetKey, Pair]) -> tuple[bool, int, WorkerId, ModelKey]:
    """Those who have a draft keep it, then the largest model gains most."""
    return (target.worker_id, target.key) not in standing, -target.weights_bytes, target.worker_id, target.key


def _best(
    target: Target,
    drafts: Sequence[Draft],
    room: Mapping[tuple[WorkerId, ModelKey], float],
    stands: Pair | None,
    known: Known,
    now: float,
) -> tuple[Draft | None, str]:
    """The draft, or why there is none: the reason of the one that came nearest."""
    fitting: list[Draft] = []
    reasons: list[tuple[int, str]] = [(0, "no draft worker is ready")]
    for one in drafts:
        held = known.held.get((target.worker_id, one.worker_id))
        if one.tokenizer != target.tokenizer or not target.tokenizer:
            reasons.append((1, "no draft has its tokenizer"))
        elif target.weights_bytes and one.weights_bytes >= target.weights_bytes:
            reasons.append((2, f"{one.key[0]} on {one.node} is no smaller than it"))
        elif held is not None and now < held.until:
            reasons.append((4, f"{one.node}: {held.reason}"))
        elif room[one.worker_id, one.key] < min(target.slots, SLOTS_SHARED * one.slots):
            reasons.append((3, f"{one.node} drafts for as many as it can hold"))
        else:
            fitting.append(one)
    if not fitting:
        return None, max(reasons)[1]
    best = min(fitting, key=lambda one: (_round_s(target, one, known), one.worker_id, one.key))
    if stands is not None:
        kept = next((one for one in fitting if (one.worker_id, one.key) == (stands.draft_id, stands.draft_key)), None)
        if kept is not None:
            much_faster = _round_s(target, best, known) < SWITCH_GAIN * _round_s(target, kept, known)
            if not much_faster or now - stands.since < SETTLED_S:
                return kept, ""
    return best, ""


def _round_s(target: Target, draft: Draft, known: Known) -> float:
    """Seconds until ROUND_TOKENS proposals are there: measured where the two have met, else by way of the router."""
    rtt_s = known.rtts.get((target.worker_id, draft.worker_id), target.rtt_s + draft.rtt_s)
    busy = 1.0 + draft.running / max(draft.slots, 1)
    return rtt_s + ROUND_TOKENS * draft.token_s * busy


def _idle(
    drafts: Sequence[Draft], targets: Sequence[Target], pairs: Iterable[Pair], known: Known, now: float
) -> dict[WorkerId, str]:
    """Drafts that nobody asks, and why."""
    used = {one.draft_id for one in pairs}
    idle: dict[WorkerId, str] = {}
    for one in drafts:
        if one.worker_id in used:
            continue
        held = [
            told for (_, draft_id), told in known.held.items() if draft_id == one.worker_id and now < told.until
        ]  # fmt: skip
        if held:
            idle[one.worker_id] = held[0].reason
        elif not any(one.tokenizer == target.tokenizer for target in targets):
            idle[one.worker_id] = "no worker that takes drafts has its tokenizer"
        else:
            idle[one.worker_id] = "its targets have nearer or faster drafts, or are no larger than it"
    return idle
