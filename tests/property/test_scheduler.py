"""Rule: whatever happens in whatever order, every book of the scheduler agrees, and all of them end at zero.

Hypothesis plays clients, workers and the clock against the real scheduler and the real fleet: 200 games of 50 moves.
After every event ``validate`` compares the books; what the game knows of each request is compared here.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import RefusalCode
from router.domain.placement import Ending, Outcome
from router.scheduling.admission.limits import AdmissionLimits, TenantLimits
from router.scheduling.events import Fault, Instruction, Reject, Send, Shed, Tick, WakeAt
from router.scheduling.scheduler import RetryLimits
from tests.support.fleets import TARGETS, instance, request
from tests.support.scheduling import Pool

WORKERS = ("a", "b", "c")
INSTANCES = {"a": instance(slots=2), "b": instance(slots=2, context_tokens=4096), "c": instance("q4_k_m", slots=4)}


class SchedulerGame(RuleBasedStateMachine):
    """``placed`` holds what the scheduler said to send, by request; ``sent`` and ``taken`` how far each got."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.waiting: set[RequestId] = set()
        self.placed: dict[RequestId, Send] = {}
        self.sent: set[RequestId] = set()
        self.taken: set[RequestId] = set()
        self.tokens: dict[RequestId, int] = {}
        self.wake_at: float | None = None

    @initialize(replicas=st.sampled_from([1, 4]), queue=st.sampled_from([3, 100]))
    def open(self, replicas: int, queue: int) -> None:
        limits = AdmissionLimits(
            queue_limit=queue, patience_s=2.0, longest_wait_s=5.0, default_tenant=TenantLimits(queue_limit=6)
        )
        retries = RetryLimits(max_attempts=3, max_moves=4)
        self.pool = Pool(*WORKERS, instances=INSTANCES, limits=limits, retries=retries, replicas=replicas)

    # -- what the scheduler answers ----------------------------------------------------------------------------

    def carry_out(self, instructions: list[Instruction]) -> None:
        """Every instruction is about a request that waits, once."""
        for one in instructions:
            if isinstance(one, WakeAt):
                self.wake_at = one.at
                continue
            assert one.request_id in self.waiting, f"{one} for a request that does not wait"
            self.waiting.remove(one.request_id)
            if isinstance(one, Send):
                assert one.request_id not in self.placed, "two live claims"
                self.placed[one.request_id] = one
            else:
                assert isinstance(one, Shed | Reject)
                self.forget(one.request_id)

    def forget(self, request_id: RequestId) -> Send | None:
        self.waiting.discard(request_id)
        self.sent.discard(request_id)
        self.taken.discard(request_id)
        self.tokens.pop(request_id, None)
        return self.placed.pop(request_id, None)

    def pick(self, data: st.DataObject, some: set[RequestId]) -> RequestId:
        return data.draw(st.sampled_from(sorted(some)))

    def end(self, request_id: RequestId) -> Send:
        """Its attempt is over; the request waits again until the scheduler says otherwise."""
        send = self.placed.pop(request_id)
        self.sent.discard(request_id)
        self.taken.discard(request_id)
        self.waiting.add(request_id)
        return send

    # -- clients -----------------------------------------------------------------------------------------------

    @rule(
        prompt=st.sampled_from([10, 1000, 3000, 6000]),
        slo=st.booleans(),
        priority=st.integers(0, 1),
        blocks=st.integers(0, 40),
        deadline=st.sampled_from([1.0, 30.0, 1e9]),
    )
    def arrives(self, prompt: int, slo: bool, priority: int, blocks: int, deadline: float) -> None:
        self.number += 1
        now = self.pool.clock.now()
        asked = request(
            self.number,
            prompt_tokens_estimate=prompt,
            slo=TARGETS if slo else None,
            priority=priority,
            block_hashes=tuple(range(blocks)),
            deadline_at=now + deadline,
            max_tokens=100,
        )
        self.waiting.add(asked.request_id)
        self.carry_out(self.pool.arrive(asked))

    @precondition(lambda self: self.waiting or self.placed)
    @rule(data=st.data(), ending=st.sampled_from([Ending.ABORTED, Ending.DEADLINE]), began=st.booleans())
    def client_leaves(self, data: st.DataObject, ending: Ending, began: bool) -> None:
        request_id = self.pick(data, self.waiting | set(self.placed))
        outcome = Outcome(ending=ending, ttft_s=0.1 if began else None) if request_id in self.sent else None
        self.forget(request_id)
        self.carry_out(self.pool.abandon(request_id, outcome))

    # -- workers -----------------------------------------------------------------------------------------------

    @precondition(lambda self: set(self.placed) - self.sent)
    @rule(data=st.data())
    def goes_out(self, data: st.DataObject) -> None:
        request_id = self.pick(data, set(self.placed) - self.sent)
        send = self.placed[request_id]
        if self.pool.membership.connected(send.placed.worker_id):
            self.pool.send(send)
            self.sent.add(request_id)
        else:
            self.end(request_id)
            self.carry_out(self.pool.unsent(send, tokens=self.tokens.get(request_id, 0)))

    @precondition(lambda self: self.sent - self.taken)
    @rule(data=st.data())
    def accepts(self, data: st.DataObject) -> None:
        request_id = self.pick(data, self.sent - self.taken)
        self.pool.accepted(self.placed[request_id])
        self.taken.add(request_id)

    @precondition(lambda self: self.sent - self.taken)
    @rule(data=st.data(), code=st.sampled_from(list(RefusalCode)))
    def refuses(self, data: st.DataObject, code: RefusalCode) -> None:
        request_id = self.pick(data, self.sent - self.taken)
        if code is RefusalCode.CONFLICT and not self.placed[request_id].max_queued_prefill_tokens:
            code = RefusalCode.BUSY
        send = self.end(request_id)
        self.carry_out(self.pool.refuse(send, code, context_tokens=4096))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), new=st.integers(0, 40), fault=st.sampled_from(list(Fault)))
    def breaks_off(self, data: st.DataObject, new: int, fault: Fault) -> None:
        request_id = self.pick(data, self.sent)
        new = new if request_id in self.taken else 0
        done = self.tokens[request_id] = self.tokens.get(request_id, 0) + new
        send = self.end(request_id)
        complete = done >= 100
        instructions = self.pool.lose(send, tokens=done, progressed=new > 0, fault=fault, complete=complete)
        if complete:
            self.forget(request_id)
        self.carry_out(instructions)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def finishes(self, data: st.DataObject) -> None:
        request_id = self.pick(data, self.taken)
        send = self.forget(request_id)
        assert send is not None
        self.carry_out(self.pool.finish(send))

    @rule(name=st.sampled_from(WORKERS), running=st.integers(0, 8), waiting=st.integers(0, 3), seen=st.booleans())
    def reports(self, name: str, running: int, waiting: int, seen: bool) -> None:
        if self.pool.membership.connected(WorkerId(name)):
            self.carry_out(self.pool.load(name, seen=seen, running=running, waiting=waiting))

    @rule(name=st.sampled_from(WORKERS))
    def worker_goes(self, name: str) -> None:
        self.pool.leave(name)

    @rule(name=st.sampled_from(WORKERS))
    def worker_comes(self, name: str) -> None:
        if not self.pool.membership.connected(WorkerId(name)):
            self.pool.join(name)
            self.carry_out(self.pool.tell(Tick()))

    # -- time --------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.03, 0.3, 3.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.pool.clock.advance(seconds)
        self.carry_out(self.pool.tell(Tick()))

    @precondition(lambda self: self.wake_at is not None)
    @rule()
    def the_alarm_rings(self) -> None:
        assert self.wake_at is not None
        self.pool.clock.set(max(self.wake_at, self.pool.clock.now()))
        self.wake_at = None
        self.carry_out(self.pool.tell(Tick()))

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_lost(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert len(self.pool.scheduler) == len(self.waiting) + len(self.placed)
        assert {claim.request_id for claim in self.pool.claims} == set(self.placed)
        inflight = sum(view.inflight.requests for view in self.pool.membership.snapshot().workers)
        assert inflight <= len(self.placed)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for request_id in sorted(self.waiting | set(self.placed)):
            self.pool.abandon(request_id)
        assert len(self.pool.scheduler) == len(self.pool.claims) == self.pool.scheduler.queued == 0
        assert self.pool.placer.outstanding() == {}
        assert self.pool.scheduler.idle or not self.pool.scheduler.queued
        assert all(view.inflight.requests == 0 for view in self.pool.membership.snapshot().workers)


TestSchedulerGame = SchedulerGame.TestCase
TestSchedulerGame.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
