"""The one Placer: filters, then a policy's score, then the record; and everything that learns from what happens.

Every policy runs behind the same filters and learns from the same events, so a comparison of policies compares
nothing else.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from protos.contract.ids import WorkerId
from router.domain.placement import Ending, Exclusions, NoCandidate, Outcome, Placed, PlacementResult, Prediction
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.scheduling.estimators.output_length import OutputLength
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.speed_model import Expectation, SpeedModel, SpeedPredictor
from router.scheduling.explain.record import Decision, RecordBook
from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import DECODE, Column
from router.scheduling.placement.cost import CostWeights
from router.scheduling.placement.cost import score as cost_score
from router.scheduling.placement.filters.dynamic import KV_SLACK, Demand, all_pass, passing
from router.scheduling.placement.filters.eligibility import Eligible
from router.scheduling.placement.filters.passed_over import PassedOver
from router.scheduling.placement.filters.static import rules_of
from router.scheduling.placement.fleet_table import FleetTable
from router.scheduling.placement.interfaces import Dispatched
from router.scheduling.placement.policy import Policy
from router.scheduling.placement.precondition import max_queued_prefill_tokens
from router.scheduling.placement.quality import Quality
from router.scheduling.placement.text_blocks import BLOCK_BYTES
from router.scheduling.placement.wanted import brought_up


class ComposedPlacer:
    """See ``router.scheduling.placement.interfaces.Placer`` for what each method promises."""

    def __init__(
        self,
        policy: Policy,
        *,
        quality: Quality,
        predict_speed: SpeedPredictor,
        weights: CostWeights | None = None,
        records: RecordBook | None = None,
        prefixes: PrefixIndex | None = None,
    ) -> None:
        self._policy = policy
        self._parameters = policy.parameters()
        self._weights = weights or CostWeights()
        self._records = records if records is not None else RecordBook()
        self._prefixes = prefixes if prefixes is not None else PrefixIndex()
        self._speeds = SpeedModel(predict_speed)
        self._lengths = OutputLength()
        self._table = FleetTable(self._speeds, self._prefixes, quality, unseen=self._weights.unseen)
        self._running: dict[InstanceKey, dict[str, Dispatched]] = {}

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._policy.name

    @property
    def records(self) -> RecordBook:
        """The decision records."""
        return self._records

    @property
    def speeds(self) -> SpeedModel:
        """What is believed about every instance's speed."""
        return self._speeds

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """All records of a request as JSON-ready values, first attempt first; None when none is kept."""
        records = self._records.find(request_id)
        if not records:
            return None
        return {"request_id": request_id, "records": [msgspec.to_builtins(record) for record in records]}

    def expected_output(self, request: InferenceRequest) -> float:
        """Expected output tokens: the request's own figure when it has one, else the estimate."""
        return float(request.expected_output_tokens) or self._lengths.expect(request)

    def outstanding(self) -> dict[InstanceKey, int]:
        """Requests this router has at each instance; none that has none."""
        return {key: len(here) for key, here in self._running.items()}

    def knows(self, model: str) -> bool:
        """Some worker served the model since this router started."""
        return self._table.knows(model)

    def place(
        self,
        request: InferenceRequest,
        snapshot: FleetSnapshot,
        now: float,
        *,
        avoid: frozenset[WorkerId] = frozenset(),
    ) -> PlacementResult:
        """Choose the candidate with the policy's lowest score."""
        self._table.refresh(snapshot)
        eligible = self._table.eligible(rules_of(request))
        facts = self._facts(request, now)
        demand = Demand(
            float(request.prompt_tokens_estimate), float(request.sampling.max_tokens or 0), facts.output_tokens
        )
        candidates, exclusions = self._sift(request, eligible, demand, now, avoid)
        if candidates is None:
            model = request.model.name
            returning, wanted = model in snapshot.expected_models, snapshot.wanted.get(model)
            found = NoCandidate(
                model=model,
                exclusions=exclusions,
                known_model=self._table.knows(model) or returning or wanted is not None,
                returning=returning,
                longest_context=self._longest_context(eligible),
            )
            return found if wanted is None else brought_up(found, request, wanted)
        inputs = self._policy.inputs(candidates, facts)
        scores = self._policy.score(candidates, facts, inputs)
        index = int(scores.cost.argmin())
        prediction = self._prediction(candidates, facts, scores, index)
        decision = Decision(
            request_id=request.request_id,
            policy=self._policy.name,
            parameters=self._parameters,
            whole_pool=self._policy.whole_pool,
            facts=facts,
            candidates=candidates,
            inputs=inputs,
            scores=scores,
            index=index,
            exclusions=exclusions,
            margin_s=_margin(scores.cost, index),
            prediction=prediction,
            max_queued_prefill_tokens=self._precondition(candidates, facts, scores, index),
        )
        key = candidates.keys[index]
        return Placed(
            worker_id=key.worker_id,
            node=candidates.nodes[index],
            model=key.model,
            quantization=key.quantization,
            prediction=prediction,
            policy=self._policy.name,
            margin_s=decision.margin_s,
            record_id=request.request_id,
            max_queued_prefill_tokens=decision.max_queued_prefill_tokens,
            decision=decision,
        )

    def dispatched(self, request: InferenceRequest, placed: Placed, now: float) -> Dispatched:
        """The choice is carried out: claim the prefix, open the record, remember what was expected."""
        key = InstanceKey(placed.worker_id, placed.model, placed.quantization)
        known = self._prefixes.dispatched(key, request.block_hashes, now) if request.block_hashes else 0
        learning = _Learning(key, known)
        dispatched = Dispatched(request, placed, learning)
        here = self._running.setdefault(key, {})
        here[request.request_id] = dispatched
        self._table.set_outstanding(key, len(here))
        decision = placed.decision
        if not isinstance(decision, Decision) or decision.key != key:
            return dispatched
        self._policy.dispatched(decision.candidates, decision.index, decision.facts)
        if decision.facts.tpot_target_s < np.inf:
            target, prompt = decision.facts.tpot_target_s, request.prompt_tokens_estimate
            self._table.run_started(key, request.request_id, now, target, prompt, placed.prediction)
        learning.expected = self._expectation(key, decision, request, placed)
        learning.record_id = self._records.open(decision)
        return dispatched

    def finished(self, dispatched: Dispatched, outcome: Outcome, now: float) -> None:
        """Close the record, learn output length and speed. What was never computed is nobody's cached prefix."""
        request, learning = dispatched.request, dispatched.learning
        key: InstanceKey = learning.key
        here = self._running.get(key, {})
        here.pop(request.request_id, None)
        self._table.set_outstanding(key, len(here))
        if not here:
            self._running.pop(key, None)
        ended = self._table.run_ended if outcome.computed else self._table.run_withdrawn
        ended(key, request.request_id)
        if outcome.ending.natural:
            self._lengths.learn(request, outcome.completion_tokens, cut_off=outcome.ending is Ending.LENGTH)
        self._records.close(learning.record_id, outcome)
        if not outcome.computed:
            self._withdraw(request, learning, here)
        elif learning.reclaim:
            self._prefixes.dispatched(key, request.block_hashes, now)
        if outcome.ending.natural and learning.expected is not None:
            row = self._table.row(key)
            if row is not None:
                view, _ = self._table.at(row)
                self._speeds.finished(learning.expected, outcome, reports_steps=view.load.last_step_s > 0.0)

    def _withdraw(self, request: InferenceRequest, learning: "_Learning", here: dict[str, Dispatched]) -> None:
        """Nothing was computed of the blocks it was the first to bring; whoever shares them there computes them."""
        blocks, known = request.block_hashes, learning.known_blocks
        if known >= len(blocks):
            return
        self._prefixes.withdrawn(learning.key, blocks[known:])
        for other in here.values():
            theirs = other.request.block_hashes
            if len(theirs) > known and theirs[known] == blocks[known]:
                other.learning.reclaim = True

    def _expectation(
        self, key: InstanceKey, decision: Decision, request: InferenceRequest, placed: Placed
    ) -> Expectation:
        column = decision.candidates.data[:, decision.index]
        uncached = float(max(request.prompt_tokens_estimate - column[Column.CACHED_TOKENS], 1.0))
        return Expectation(
            key=key,
            batch=float(min(column[Column.IN_ENGINE] + column[Column.INFLIGHT_REQUESTS] + 1, column[Column.SLOTS])),
            context_tokens=float(column[Column.CONTEXT_HELD]) + request.prompt_tokens_estimate,
            uncached_tokens=uncached,
            wait_s=placed.prediction.wait_s,
            rtt_s=float(column[Column.RTT_S]),
            tpot_s=placed.prediction.tpot_s,
            sent_tokens=self._speeds.sent(key, uncached),
        )

    def observed(self, snapshot: FleetSnapshot, worker_id: WorkerId, now: float) -> None:
        """Learn from the step in the worker's new load; let go of blocks that aged."""
        self._table.refresh_worker(snapshot, worker_id)
        for key in self._table.keys_of(worker_id):
            row = self._table.row(key)
            assert row is not None
            self._prefixes.expire(key, now)
            self._speeds.observed(self._table.at(row)[0])

    def cache_changed(
        self,
        worker_id: WorkerId,
        model: str,
        quantization: str,
        *,
        stored: tuple[int, ...] = (),
        evicted: tuple[int, ...] = (),
        cleared: bool = False,
    ) -> None:
        """What the worker says about its cache goes straight into the index."""
        key = InstanceKey(worker_id, model, quantization)
        if self._table.row(key) is not None:
            self._prefixes.published(key, stored, evicted, cleared=cleared)

    def forget(self, worker_id: WorkerId) -> None:
        """The worker is gone: its cache with it. Its speed is kept until it leaves the fleet table."""
        for key in self._table.keys_of(worker_id):
            self._prefixes.published(key, (), (), cleared=True)
            self._policy.forget(key)

    def _facts(self, request: InferenceRequest, now: float) -> RequestFacts:
        prompt = max(request.prompt_tokens_estimate, 1)
        output = self.expected_output(request)
        slo = request.slo
        waited = max(now - request.arrived_at, 0.0)
        if slo is None:
            return RequestFacts(now, waited, prompt, output)
        ttft = np.inf if slo.ttft_s is None else slo.ttft_s + slo.ttft_per_prompt_token_s * prompt
        return RequestFacts(now, waited, prompt, output, ttft, np.inf if slo.tpot_s is None else slo.tpot_s)

    def _sift(
        self, request: InferenceRequest, eligible: Eligible, demand: Demand, now: float, avoid: frozenset[WorkerId]
    ) -> tuple[Candidates | None, Exclusions]:
        rows = eligible.rows
        if not len(rows):
            return None, Exclusions(eligible.exclusions)
        candidates = self._table.candidates(eligible)
        data, index_rows, keys = candidates.data, eligible.index_rows, eligible.keys
        passed_over: PassedOver | None = None
        if avoid or not all_pass(data, demand, now):
            tried = np.fromiter((key.worker_id in avoid for key in keys), dtype=bool, count=len(rows))
            demand = demand.within(_longest(data, tried))
            passes = passing(data, demand, now)
            if not passes.any():
                passes = passing(data, demand, now, slack=KV_SLACK)
            out = np.flatnonzero(~passes | tried)
            if len(out):
                instances = [self._table.at(row) for row in rows[out].tolist()]
                passed_over = PassedOver(instances, data[:, out], ruled_out=passes[out], demand=demand, now=now)
            if len(out) == len(rows):
                return None, Exclusions(eligible.exclusions, passed_over)
            kept = np.flatnonzero(passes & ~tried)
            candidates, index_rows = candidates.take(kept), index_rows[kept]
        self._write_cached(candidates.data, request, index_rows)
        return candidates, Exclusions(eligible.exclusions, passed_over)

    def _longest_context(self, eligible: Eligible) -> int:
        limits = self._table.data[Column.CONTEXT_LIMIT].take(eligible.rows)
        return int(limits.max()) if len(limits) and np.isfinite(limits.max()) else 0

    def _write_cached(self, data: Floats, request: InferenceRequest, index_rows: NDArray[np.intp]) -> None:
        """Tokens of the prompt that each candidate holds."""
        depths = self._prefixes.match(request.block_hashes)
        if depths is None:
            return
        prompt = float(request.prompt_tokens_estimate)
        per_block = (
            prompt * BLOCK_BYTES / request.prompt_bytes if request.prompt_bytes else prompt / len(request.block_hashes)
        )
        cached = data[Column.CACHED_TOKENS]
        np.multiply(depths[index_rows], per_block, out=cached)
        np.minimum(cached, max(prompt - 1.0, 0.0), out=cached)

    def _prediction(self, candidates: Candidates, facts: RequestFacts, scores: Scores, index: int) -> Prediction:
        terms, chosen = scores.terms, index
        cached = candidates.data.item(Column.CACHED_TOKENS, index)
        if "ttft" not in terms:  # a policy blind to time: price its choice all the same
            alone = candidates.take(np.array([index]))
            terms, index = cost_score(alone, facts, self._weights).terms, 0
        ttft, tpot = terms["ttft"].item(index), terms["tpot"].item(index)
        violations = terms.get("expected_slo_violations")
        return Prediction(
            wait_s=terms["wait"].item(index),
            ttft_s=ttft,
            tpot_s=tpot,
            e2e_s=ttft + tpot * max(facts.output_tokens - 1.0, 0.0),
            cached_tokens=int(cached),
            tpot_alone_s=_tpot_alone(candidates, chosen, facts),
            expected_slo_violations=0.0 if violations is None else violations.item(index),
        )

    def _precondition(self, candidates: Candidates, facts: RequestFacts, scores: Scores, index: int) -> int:
        """The choice's precondition; none where nobody else sends to the same workers, or the policy knows no time."""
        if self._weights.replicas < 2 or "ttft" not in scores.terms:
            return 0
        return max_queued_prefill_tokens(
            wait_s=float(scores.terms["wait"][index]),
            slack_s=facts.ttft_target_s - facts.waited_s - float(scores.terms["ttft"][index]),
            margin_s=_margin(scores.cost, index),
            token_s=float(candidates.data[Column.PREFILL_TOKEN_S, index]),
        )


@dataclass(slots=True)
class _Learning:
    """What is kept of a dispatch until its outcome."""

    key: InstanceKey
    known_blocks: int  # of its prompt, held there before
    expected: Expectation | None = None
    record_id: str = ""
    reclaim: bool = False  # another request with the same blocks withdrew them: they come back when this one computed


def _tpot_alone(candidates: Candidates, index: int, facts: RequestFacts) -> float:
    """Seconds per token on this worker with nothing else there, halfway through the output."""
    column, curves = candidates.data[:, index], candidates.curves
    context = facts.prompt_tokens + 0.5 * facts.output_tokens
    if curves is not None and (speed := curves.speeds[index]) is not None:
        return float(speed.step_s(1, context))
    base, per_sequence, per_context = column[DECODE.at].tolist()
    return float(base + per_sequence + per_context * context)


def _longest(data: Floats, tried: NDArray[np.bool_]) -> float:
    """The longest context of those that are left, or of all where none is: then nobody is asked."""
    limits = data[Column.CONTEXT_LIMIT]
    return float((limits if tried.all() else limits[~tried]).max())


def _margin(cost: Floats, index: int) -> float:
    """Cost of the runner-up minus cost of the choice; 0 when there is no other."""
    if len(cost) < 2:
        return 0.0
    best = cost.item(index)
    cost[index] = np.inf
    second = cost.item(cost.argmin())
    cost[index] = best
    return float(second - best)
