"""Decision records: what was seen, what every choice would have cost, what was picked, and what then happened.

While requests run, a record is the arrays of the decision as they were; it becomes text only when somebody asks.
Records are sampled, and bounded by number and by candidate rows: the oldest go first.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from router.domain.placement import Exclusions, Outcome, Prediction
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import Column

MAX_ROWS_PER_RECORD = 64
"""Candidates kept per record, the cheapest; a policy that looks at the whole pool keeps all."""

MAX_REASONS_PER_RECORD = 16
"""Reasons kept of workers that load or time excluded; of more it is kept how many there are of each kind."""


class CandidateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: the snapshot values used, the policy's own inputs, and every term."""

    worker: str
    node: str
    model: str
    quantization: str
    cost: float | None
    terms: dict[str, float | None]
    values: dict[str, float | None]  # by lower-case column name; None: no limit
    inputs: dict[str, float | None] = {}
    decode_curve: list[tuple[int, float]] = []  # sequences, seconds of their step; empty: a straight line
    prefill_curve: list[tuple[int, float]] = []  # tokens, seconds; from none on


class FactsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The request as the score saw it. ``None``: no target."""

    now: float
    waited_s: float
    prompt_tokens: int
    output_tokens: float
    ttft_target_s: float | None = None
    tpot_target_s: float | None = None


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, JSON-ready. Infinite values (no limit) are written as null."""

    record_id: str
    request_id: str
    attempt: int
    policy: str
    parameters: dict[str, float]
    facts: FactsRecord
    shared_inputs: dict[str, float | None]
    candidates: list[CandidateRecord]
    omitted: int  # candidates dearer than all that are kept
    exclusions: list[dict[str, str]]
    omitted_exclusions: dict[str, int] = {}  # by filter
    picked: str  # worker id
    picked_quantization: str
    margin_s: float | None
    prediction: dict[str, float]
    max_queued_prefill_tokens: int = 0  # that might stand before it there; more: a conflict. 0: any number
    outcome: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Decision:
    """A decision as it was taken; cheap to make and to keep."""

    request_id: str
    attempt: int = 0
    policy: str
    parameters: dict[str, float]
    whole_pool: bool
    facts: RequestFacts
    candidates: Candidates
    inputs: Mapping[str, Floats]
    scores: Scores
    index: int
    exclusions: Exclusions
    margin_s: float
    prediction: Prediction
    max_queued_prefill_tokens: int = 0
    omitted: int = 0
    outcome: Outcome | None = None

    @property
    def key(self) -> InstanceKey:
        """Who was picked."""
        return self.candidates.keys[self.index]

    @property
    def record_id(self) -> str:
        """Unique per attempt."""
        return f"{self.request_id}#{self.attempt}"

    def trimmed(self) -> "Decision":
        """At most MAX_ROWS_PER_RECORD candidates, the cheapest, in their old order; a few of the reasons."""
        self.exclusions = self.exclusions.brief(MAX_REASONS_PER_RECORD)
        total = len(self.candidates)
        if self.candidates.curves is not None:
            self.candidates = replace(self.candidates, curves=self.candidates.curves.without_bends())
        if self.whole_pool or total <= MAX_ROWS_PER_RECORD:
            return self
        keep = np.sort(np.argpartition(self.scores.cost, MAX_ROWS_PER_RECORD - 1)[:MAX_ROWS_PER_RECORD])
        if self.index not in keep:
            keep = np.sort(np.append(keep[:-1], self.index))
        rows = keep.tolist()
        self.candidates = self.candidates.take(keep)
        self.inputs = {name: a if len(a) == 1 else a[keep] for name, a in self.inputs.items()}
        self.scores = Scores(self.scores.cost[keep], {n: a[keep] for n, a in self.scores.terms.items()})
        self.index = rows.index(self.index)
        self.omitted = total - len(rows)
        return self


@dataclass(slots=True)
class RecordBook:
    """The records kept: at most ``capacity``, holding at most ``capacity_rows`` candidates together."""

    capacity: int = 4096
    sample: float = 1.0
    capacity_rows: int = 65_536
    closed: Callable[[Decision], None] | None = None  # hears every decision whose outcome is known
    _decisions: OrderedDict[str, Decision] = field(default_factory=OrderedDict)
    _attempts: dict[str, list[str]] = field(default_factory=dict)  # request -> its record ids
    _rows: int = 0
    _due: float = 0.0

    def __len__(self) -> int:
        return len(self._decisions)

    @property
    def rows(self) -> int:
        """Candidate rows held."""
        return self._rows

    def open(self, decision: Decision) -> str:
        """Keep the decision if the sample says so; its record id, or an empty string."""
        self._due += self.sample
        known = self._attempts.get(decision.request_id, [])
        if self.capacity <= 0 or (self._due < 1.0 and not known):
            return ""
        self._due = self._due % 1.0
        decision.attempt = len(known)
        kept = decision.trimmed()
        self._attempts.setdefault(decision.request_id, []).append(kept.record_id)
        self._decisions[kept.record_id] = kept
        self._rows += len(kept.candidates)
        while len(self._decisions) > self.capacity or (self._rows > self.capacity_rows and len(self._decisions) > 1):
            self._drop_oldest()
        return kept.record_id

    def close(self, record_id: str, outcome: Outcome) -> None:
        """Write down what happened; a record that has aged out is left alone."""
        decision = self._decisions.get(record_id)
        if decision is not None:
            decision.outcome = outcome
            if self.closed is not None:
                self.closed(decision)

    def find(self, request_id: str) -> list[DecisionRecord]:
        """All records of a request, first attempt first; empty when none was kept."""
        return [to_record(self._decisions[record_id]) for record_id in self._attempts.get(request_id, ())]

    def all(self) -> list[DecisionRecord]:
        """Every record kept, oldest first."""
        return [to_record(decision) for decision in self._decisions.values()]

    def _drop_oldest(self) -> None:
        record_id, decision = self._decisions.popitem(last=False)
        self._rows -= len(decision.candidates)
        attempts = self._attempts[decision.request_id]
        attempts.remove(record_id)
        if not attempts:
            del self._attempts[decision.request_id]


def to_record(decision: Decision) -> DecisionRecord:
    """Arrays to names and numbers."""
    candidates, scores, facts = decision.candidates, decision.scores, decision.facts
    curves = candidates.curves
    own = {name: a for name, a in decision.inputs.items() if len(a) == len(candidates) and len(a) != 1}
    rows = [
        CandidateRecord(
            worker=key.worker_id,
            node=candidates.nodes[i],
            model=key.model,
            quantization=key.quantization,
            cost=_finite(float(scores.cost[i])),
            terms={name: _finite(float(values[i])) for name, values in scores.terms.items()},
            values={column.name.lower(): _finite(float(candidates.data[column, i])) for column in Column},
            inputs={name: _finite(float(values[i])) for name, values in own.items()},
            decode_curve=[] if curves is None else [(one.at, one.seconds) for one in curves.decode(i)],
            prefill_curve=[] if curves is None else [(one.at, one.seconds) for one in curves.prefill(i)],
        )
        for i, key in enumerate(candidates.keys)
    ]
    picked = decision.key
    prediction, outcome = decision.prediction, decision.outcome
    return DecisionRecord(
        record_id=decision.record_id,
        request_id=decision.request_id,
        attempt=decision.attempt,
        policy=decision.policy,
        parameters=decision.parameters,
        facts=FactsRecord(
            now=facts.now,
            waited_s=facts.waited_s,
            prompt_tokens=facts.prompt_tokens,
            output_tokens=facts.output_tokens,
            ttft_target_s=_finite(facts.ttft_target_s),
            tpot_target_s=_finite(facts.tpot_target_s),
        ),
        shared_inputs={name: _finite(float(a[0])) for name, a in decision.inputs.items() if name not in own},
        candidates=rows,
        omitted=decision.omitted,
        exclusions=[
            {
                "worker": e.worker_id,
                "node": e.node,
                "filter": e.filter,
                "reason": e.reason,
                "quantization": e.quantization,
            }
            for e in decision.exclusions
        ],
        omitted_exclusions={name.value: count for name, count in decision.exclusions.omitted.items()},
        picked=picked.worker_id,
        picked_quantization=picked.quantization,
        margin_s=_finite(decision.margin_s),
        prediction={name: float(getattr(prediction, name)) for name in _PREDICTION},
        max_queued_prefill_tokens=decision.max_queued_prefill_tokens,
        outcome=None if outcome is None else {name: getattr(outcome, name) for name in _OUTCOME},
    )


_PREDICTION = ("wait_s", "ttft_s", "tpot_s", "e2e_s", "cached_tokens")
_OUTCOME = (
    "finished_at",
    "ttft_s",
    "e2e_s",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "ending",
)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
