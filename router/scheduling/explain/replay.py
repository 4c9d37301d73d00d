"""Computes a recorded decision again, as it was or with inputs changed.

A replay builds the policy from the record's own name and parameters, hands it the recorded columns and inputs, and
takes the lowest score, exactly as the decision did. It needs nothing of the running router.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from protos.contract.curve import CurvePoint
from protos.contract.ids import WorkerId
from protos.contract.worker import Speed
from router.errors import ConfigError
from router.scheduling.explain.record import CandidateRecord, DecisionRecord, FactsRecord
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import COLUMNS, Column
from router.scheduling.placement.cost import CostWeights
from router.scheduling.placement.curves import AT_THE_LOAD, Curves, write_decode_line
from router.scheduling.placement.policies import POLICIES, PolicyTable, build_policy
from router.scheduling.placement.policy import Policy


@dataclass(frozen=True, slots=True)
class Change:
    """One input set to another value: of one worker, or of the request when ``worker`` is "request"."""

    worker: str
    field: str
    value: float

    @staticmethod
    def parse(text: str) -> "Change":
        """From ``worker.field=value``; ``worker`` is a node name or worker id, or ``request``.

        Raises ConfigError with what is wrong.
        """
        target, equals, value = text.partition("=")
        worker, dot, field = target.rpartition(".")
        if not (equals and dot and worker and field):
            raise ConfigError(f"--set {text}: write it as worker.field=value, for example m4-max.running=0")
        try:
            change = Change(worker, field.lower(), float(value))
        except ValueError:
            raise ConfigError(f"--set {text}: '{value}' is not a number") from None
        if math.isnan(change.value):
            raise ConfigError(f"--set {text}: '{value}' is not a number")
        return change

    def within(self, least: float, *, infinite: bool) -> float:
        """The value, if it is at least so much. Raises ConfigError with what it may be."""
        if self.value < least or (math.isinf(self.value) and not infinite):
            bound = "" if least == -math.inf else f" of at least {least:g}"
            limit = ", or inf for no limit" if infinite else ""
            raise ConfigError(f"--set {self.worker}.{self.field}={self.value:g}: write a finite number{bound}{limit}")
        return self.value


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the decision comes to; ``same`` tells whether it is the recorded pick."""

    keys: tuple[InstanceKey, ...]
    nodes: tuple[str, ...]
    scores: Scores
    index: int
    same: bool

    @property
    def picked(self) -> InstanceKey:
        """Who is picked."""
        return self.keys[self.index]


def replay(
    record: DecisionRecord,
    changes: Sequence[Change] = (),
    without: Sequence[str] = (),
    *,
    policies: PolicyTable = POLICIES,
) -> Replayed:
    """Score the record's candidates again, leaving out the workers (or nodes) that ``without`` names.

    Raises ConfigError for a change that names nothing in the record, and for a record that cannot be computed.
    """
    record = _leave_out(record, without)
    try:
        with np.errstate(all="ignore"):  # what comes out as no number is refused below
            candidates, facts, inputs = _candidates(record), _facts(record.facts), _inputs(record)
            for change in changes:
                facts = _apply(change, record, candidates, facts, inputs)
            policy = _policy(record, policies)
            scores = policy.score(candidates, facts, inputs)
    except KeyError as error:
        lacks = f"it lacks the value {error}, which this version computes with"
        raise ConfigError(f"{record.record_id}: {lacks}, so it cannot be computed again") from None
    except (ValueError, IndexError, ArithmeticError) as error:
        raise ConfigError(f"{record.record_id}: it cannot be computed again: {error}") from None
    if np.isnan(scores.cost).any():
        node = candidates.nodes[int(np.isnan(scores.cost).argmax())]
        raise ConfigError(f"{record.record_id}: the cost of {node} comes out as no number")
    index = int(scores.cost.argmin())
    picked = candidates.keys[index]
    same = (picked.worker_id, picked.quantization) == (record.picked, record.picked_quantization)
    return Replayed(candidates.keys, candidates.nodes, scores, index, same)


def _policy(record: DecisionRecord, policies: PolicyTable) -> Policy:
    try:
        return build_policy(record.policy, random.Random(0), policies, **record.parameters)
    except ConfigError as error:
        raise ConfigError(f"{record.record_id}: it cannot be computed again: {error}") from None


def _leave_out(record: DecisionRecord, names: Sequence[str]) -> DecisionRecord:
    nodes = ", ".join(sorted({row.node for row in record.candidates}))
    if not nodes:
        raise ConfigError(f"{record.record_id}: it has no candidates, so there is nothing to compute")
    for name in names:
        if not any(name in (row.node, row.worker) for row in record.candidates):
            raise ConfigError(f"--without {name}: {record.record_id} has the candidates {nodes}")
    left = [row for row in record.candidates if row.node not in names and row.worker not in names]
    if not left:
        raise ConfigError(f"--without {', '.join(names)}: nobody is left of the candidates of {record.record_id}")
    return record if len(left) == len(record.candidates) else msgspec.structs.replace(record, candidates=left)


def differences(record: DecisionRecord, replayed: Replayed, *, tolerance: float = 1e-9) -> list[str]:
    """Terms and costs that do not come out as recorded, one line each; empty when the record holds."""
    found = []
    for i, candidate in enumerate(record.candidates):
        recorded = {"cost": candidate.cost, **candidate.terms}
        computed = {"cost": replayed.scores.cost[i], **{n: a[i] for n, a in replayed.scores.terms.items()}}
        for name in sorted(recorded.keys() | computed.keys()):
            a, b = _number(recorded.get(name)), float(computed.get(name, np.inf))
            if a != b and not abs(a - b) <= tolerance * max(1.0, abs(a)):
                found.append(f"{record.record_id} {candidate.node}: {name} was {a:.6g}, comes out as {b:.6g}")
    return found


_BEFORE = {Column.PRICE_S: 0.0}
"""Of columns that records of an earlier version do not have: nobody could ask for it then."""


def _number(value: float | None) -> float:
    """A record writes what is infinite as null."""
    return float("inf") if value is None else value


def _candidates(record: DecisionRecord) -> Candidates:
    rows = record.candidates
    data = np.zeros((COLUMNS, len(rows)))
    for i, row in enumerate(rows):
        for column in Column:
            name = column.name.lower()
            data[column, i] = _number(
                _BEFORE[column] if column in _BEFORE and name not in row.values else row.values[name]
            )
    curved = any(row.decode_curve or row.prefill_curve for row in rows)
    return Candidates(
        tuple(InstanceKey(WorkerId(row.worker), row.model, row.quantization) for row in rows),
        tuple(row.node for row in rows),
        data,
        Curves(np.array([_speed(row, data[:, i]) for i, row in enumerate(rows)], dtype=object)) if curved else None,
    )


def _speed(row: CandidateRecord, column: Floats) -> Speed | None:
    """The recorded curves, as far as the cost asks for them."""
    if not (row.decode_curve or row.prefill_curve):
        return None
    at_none, *prefill = (CurvePoint(at=at, seconds=seconds) for at, seconds in row.prefill_curve or [(0, 0.0)])
    return Speed(
        base_s=float(column[Column.BASE_S]),
        per_sequence_s=float(column[Column.PER_SEQUENCE_S]),
        per_context_token_s=float(column[Column.PER_CONTEXT_TOKEN_S]),
        prefill_tokens_per_s=1.0 / float(column[Column.PREFILL_TOKEN_S]),
        prefill_base_s=at_none.seconds if prefill else float(column[Column.PREFILL_BASE_S]),
        decode_curve=tuple(CurvePoint(at=at, seconds=seconds) for at, seconds in row.decode_curve),
        prefill_curve=tuple(prefill),
    )


def _facts(facts: FactsRecord) -> RequestFacts:
    return RequestFacts(
        now=facts.now,
        waited_s=facts.waited_s,
        prompt_tokens=facts.prompt_tokens,
        output_tokens=facts.output_tokens,
        ttft_target_s=_number(facts.ttft_target_s),
        tpot_target_s=_number(facts.tpot_target_s),
    )


def _inputs(record: DecisionRecord) -> dict[str, Floats]:
    inputs = {name: np.array([_number(value)]) for name, value in record.shared_inputs.items()}
    for name in record.candidates[0].inputs if record.candidates else ():
        inputs[name] = np.array([_number(row.inputs[name]) for row in record.candidates])
    return inputs


def _apply(
    change: Change, record: DecisionRecord, candidates: Candidates, facts: RequestFacts, inputs: dict[str, Floats]
) -> RequestFacts:
    if change.worker == "request":
        if change.field not in RequestFacts._fields:
            raise ConfigError(
                f"--set request.{change.field}: no such field; there are {', '.join(RequestFacts._fields)}"
            )
        value = change.within(_FACTS[change.field][0], infinite=_FACTS[change.field][1])
        return facts._replace(**{change.field: int(value) if change.field == "prompt_tokens" else value})  # type: ignore[arg-type]
    rows = [i for i, row in enumerate(record.candidates) if change.worker in (row.node, row.worker)]
    if not rows:
        nodes = ", ".join(sorted({row.node for row in record.candidates}))
        raise ConfigError(f"--set {change.worker}.{change.field}: {record.record_id} has the candidates {nodes}")
    columns = {column.name.lower(): column for column in Column}
    own = [name for name, values in inputs.items() if len(values) == len(candidates)]
    if change.field in columns:
        column = columns[change.field]
        value = change.within(_LEAST.get(column, 0.0), infinite=column in _MAY_BE_INFINITE)
        candidates.data[column, rows] = value
        if column in AT_THE_LOAD and candidates.curves is not None:
            unseen = CostWeights(replicas=int(record.parameters.get("replicas", 1.0))).unseen
            for i in rows:
                if candidates.curves.decode(i):
                    write_decode_line(candidates.data[:, i], candidates.curves.speeds[i], unseen)
    elif change.field in own:
        inputs[change.field][rows] = change.within(-math.inf, infinite=False)
    else:
        names = ", ".join((*columns, *own))
        raise ConfigError(f"--set {change.worker}.{change.field}: no such field; there are {names}")
    return facts


_MAY_BE_INFINITE = frozenset({Column.CONTEXT_LIMIT, Column.KV_CAPACITY, Column.KV_FREE})
_LEAST = {
    Column.SLOTS: 1.0,
    Column.OBSERVED_AT: -math.inf,
    Column.SUSPENDED_UNTIL: -math.inf,
    Column.LOW_SLACK_LEAD_S: -math.inf,
    Column.HIGH_SLACK_LEAD_S: -math.inf,
}
"""What a column may be set to; all others: from 0."""

_FACTS = {
    "now": (-math.inf, False),
    "waited_s": (0.0, False),
    "prompt_tokens": (0.0, False),
    "output_tokens": (0.0, False),
    "ttft_target_s": (0.0, True),
    "tpot_target_s": (0.0, True),
}
"""The least each figure of a request may be set to, and whether it may be infinite."""
