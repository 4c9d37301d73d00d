"""Rule: events in, instructions out. A request has one claim at most, each claim ends once, every book hears of it."""

import pytest

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import RefusalCode
from router.domain.placement import Ending, Outcome
from router.domain.request import ModelRef, SloTargets
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.events import ClientLeft, Fault, Reject, Send, Shed, ShedCode, Tick, WakeAt
from router.scheduling.scheduler import RetryLimits
from router.scheduling.tracked_request import BACKOFF_FIRST_S, MAX_CONFLICTS
from tests.support.fleets import TARGETS, instance, request
from tests.support.scheduling import Pool, sends

pytestmark = pytest.mark.holds_claims

FULL = {"running": 8, "waiting": 4}


def test_a_request_that_finds_room_goes_at_once_with_a_claim() -> None:
    """And the claim stands in the worker's view, before any load report shows it."""
    pool = Pool("a")
    (send,) = sends(pool.arrive(request(1)))
    assert (send.placed.node, send.attempt) == ("a", 1)
    (view,) = pool.membership.snapshot().workers
    assert view.inflight.requests == 1
    assert len(pool.claims) == 1


def test_an_answered_request_leaves_nothing_behind() -> None:
    """Neither claim nor count nor queue."""
    pool = Pool("a")
    (send,) = sends(pool.arrive(request(1)))
    pool.accept(send)
    pool.finish(send)
    assert len(pool.scheduler) == len(pool.claims) == 0
    assert pool.placer.outstanding() == {}


def test_what_finds_everybody_full_waits_and_goes_when_somebody_is_free() -> None:
    """A load report alone decides nothing: the tick after it does."""
    pool = Pool("a")
    pool.load("a", **FULL)
    waiting = pool.arrive(request(1))
    assert not sends(waiting)
    assert any(isinstance(one, WakeAt) for one in waiting)
    (send,) = sends(pool.load("a"))
    assert send.request_id == "r1"


@pytest.mark.parametrize("sent", [False, True])
def test_a_client_that_leaves_closes_its_claim_whenever_it_leaves(sent: bool) -> None:
    """Between the decision and the dispatch, and while the worker counts its prompt."""
    pool = Pool("a")
    (send,) = sends(pool.arrive(request(1)))
    if sent:
        pool.send(send)
    claim = next(iter(pool.claims))
    pool.abandon("r1")
    assert claim.ending is (Ending.ABORTED if sent else Ending.UNSENT)
    assert len(pool.scheduler) == 0


def test_leaving_twice_or_unknown_is_nothing() -> None:
    """Whoever cleans up need not know what was cleaned up before."""
    pool = Pool("a")
    assert pool.tell(ClientLeft(RequestId("nobody"))) == []


@pytest.mark.parametrize("ending", [Ending.ABORTED, Ending.DEADLINE])
def test_a_prompt_whose_client_left_before_its_first_token_is_nobodys_cached_prefix(ending: Ending) -> None:
    """It may never have been computed: 999 tokens were believed for ten minutes."""
    pool = Pool("a")
    hashes = tuple(range(15))
    asked = request(1, block_hashes=hashes)
    (send,) = sends(pool.arrive(asked))
    pool.accept(send)
    pool.abandon("r1", Outcome(ending=ending))
    (again,) = sends(pool.arrive(request(2, block_hashes=hashes)))
    assert again.placed.prediction.cached_tokens == 0


def test_a_prompt_lost_before_its_first_token_is_nobodys_cached_prefix() -> None:
    """The worker stays: only this attempt was lost."""
    pool = Pool("a", "b")
    hashes = tuple(range(15))
    (send,) = sends(pool.arrive(request(1, block_hashes=hashes)))
    pool.accept(send)
    (elsewhere,) = sends(pool.lose(send, fault=Fault.NONE))
    assert elsewhere.placed.node != send.placed.node
    pool.finish(elsewhere)
    (third,) = sends(pool.arrive(request(3, block_hashes=hashes)))
    assert third.placed.node == elsewhere.placed.node, "its cache is worth going there"
    assert third.placed.prediction.cached_tokens > 0


def test_a_stream_that_breaks_off_goes_on_elsewhere_with_what_is_left() -> None:
    """A longer prompt, fewer tokens to go, ahead of everybody."""
    pool = Pool("a", "b")
    (send,) = sends(pool.arrive(request(1, expected_output_tokens=100)))
    pool.accept(send, prompt_tokens=990)
    (moved,) = sends(pool.lose(send, tokens=40))
    assert moved.placed.node != send.placed.node
    assert moved.request.continues
    assert moved.request.prompt_tokens_estimate == 1030
    assert moved.request.expected_output_tokens == 60
    assert moved.attempt == 2


def test_a_worker_that_failed_is_avoided_unless_nobody_else_serves_the_model() -> None:
    """Better the one that failed than none."""
    alone = Pool("a", limits=AdmissionLimits(patience_s=1.0))
    (send,) = sends(alone.arrive(request(1)))
    alone.accept(send)
    (again,) = sends(alone.lose(send, fault=Fault.NONE))
    assert again.placed.node == "a"


def test_a_request_gives_up_after_so_many_attempts_and_says_why() -> None:
    """In a row, without a token between them."""
    pool = Pool("a", retries=RetryLimits(max_attempts=2))
    (send,) = sends(pool.arrive(request(1)))
    pool.accept(send)
    (send,) = sends(pool.lose(send, tokens=5, fault=Fault.NONE))  # it brought tokens: counted anew
    pool.accept(send)
    (shed,) = pool.lose(send, fault=Fault.NONE)
    assert isinstance(shed, Shed)
    assert shed.code is ShedCode.GAVE_UP
    assert shed.reason == "gave up after 2 attempts; the last one: a: it broke"
    assert len(pool.scheduler) == 0


def test_a_stream_moves_only_so_often() -> None:
    """However well it goes on in between."""
    pool = Pool("a", "b", retries=RetryLimits(max_moves=2))
    instructions = pool.arrive(request(1))
    for tokens in (5, 10, 15):
        (send,) = sends(instructions)
        pool.accept(send)
        instructions = pool.lose(send, tokens=tokens, fault=Fault.NONE)
    (shed,) = instructions
    assert isinstance(shed, Shed)
    assert shed.reason.startswith("gave up after 2 moves")


def test_a_stale_choice_is_made_again_and_after_two_the_request_takes_what_it_gets() -> None:
    """A conflict is no failure: nobody is avoided for it, and its precondition is dropped in the end."""
    pool = Pool("a", "b", replicas=4)
    instructions = pool.arrive(request(1, slo=TARGETS))
    asked = []
    for _ in range(MAX_CONFLICTS + 1):
        (send,) = sends(instructions)
        asked.append(send.max_queued_prefill_tokens > 0)
        if not send.max_queued_prefill_tokens:
            break
        pool.send(send)
        instructions = pool.refuse(send, RefusalCode.CONFLICT)
    assert asked == [True] * MAX_CONFLICTS + [False]


def test_a_pinned_request_carries_no_precondition() -> None:
    """It has nowhere else to go."""
    pool = Pool("a", "b", replicas=4)
    (send,) = sends(pool.arrive(request(1, slo=TARGETS, model=ModelRef(name="m", pinned="q8_0"))))
    assert send.max_queued_prefill_tokens == 0


def test_busy_workers_are_asked_again_after_a_pause_that_grows() -> None:
    """The request holds no claim meanwhile, and the scheduler says when to wake it."""
    pool = Pool("a")
    (send,) = sends(pool.arrive(request(1)))
    pool.send(send)
    (wake,) = pool.refuse(send, RefusalCode.BUSY)
    assert isinstance(wake, WakeAt)
    assert wake.at == pytest.approx(2 * BACKOFF_FIRST_S)
    assert len(pool.claims) == 0
    assert not sends(pool.tell(Tick()))
    pool.clock.set(wake.at)
    assert len(sends(pool.tell(Tick()))) == 1


def test_what_the_client_must_change_ends_the_request_with_the_workers_words() -> None:
    """Nobody else is asked."""
    pool = Pool("a", "b")
    (send,) = sends(pool.arrive(request(1)))
    pool.send(send)
    (rejected,) = pool.refuse(send, RefusalCode.INVALID)
    assert isinstance(rejected, Reject)
    assert len(pool.scheduler) == 0


def test_a_prompt_too_long_for_one_worker_is_tried_at_one_that_goes_further() -> None:
    """And is the client's fault once none does."""
    pool = Pool(
        "short", "long", instances={"short": instance(context_tokens=4096), "long": instance(context_tokens=8192)}
    )
    instructions = pool.arrive(request(1))
    seen = []
    while sends(instructions):
        (send,) = sends(instructions)
        seen.append(send.placed.node)
        pool.send(send)
        context = 4096 if send.placed.node == "short" else 8192
        instructions = pool.refuse(send, RefusalCode.CONTEXT_LENGTH, context_tokens=context)
    assert seen[-1] == "long"
    assert isinstance(instructions[0], Reject)


def test_a_failing_engine_sets_its_model_aside_and_an_answer_brings_it_back() -> None:
    """The fleet hears of both from the scheduler alone; the worker's other models go on."""
    pool = Pool("a", "b")
    (send,) = sends(pool.arrive(request(1)))
    pool.send(send)
    (elsewhere,) = sends(pool.refuse(send, RefusalCode.ENGINE_FAILED))
    assert elsewhere.placed.node != send.placed.node
    member = pool.membership.member(send.placed.worker_id)
    assert member is not None
    assert set(member.model_breakers) == {(send.placed.model, send.placed.quantization)}
    assert not member.breaker.probing
    pool.leave(elsewhere.placed.node)
    pool.lose(elsewhere, fault=Fault.NONE)
    pool.clock.set(5.0)
    (proof,) = sends(pool.tell(Tick()))
    assert proof.placed.worker_id == send.placed.worker_id
    assert sends(pool.arrive(request(2))) == [], "one at a time, until it has proved itself"
    pool.accept(proof)
    assert len(sends(pool.finish(proof))) == 1
    assert member.model_breakers == {}


@pytest.mark.parametrize(("nodes", "attempts"), [(("a",), 2), (("a", "b"), 2), (("a", "b", "c"), 3)])
def test_where_there_is_no_elsewhere_a_failing_engines_reason_is_told_soon(
    nodes: tuple[str, ...], attempts: int
) -> None:
    """Each engine once, a lone one twice: the same engine will not do otherwise the sixth time."""
    pool = Pool(*nodes, limits=AdmissionLimits(patience_s=1000.0))
    instructions = pool.arrive(request(1))
    for _ in range(attempts):
        (send,) = sends(instructions) or sends(pool.tell(Tick()))
        pool.accept(send)
        instructions = pool.lose(send, fault=Fault.MODEL)
        pool.clock.advance(2.0)
    (shed,) = instructions
    assert isinstance(shed, Shed)
    assert shed.code is ShedCode.GAVE_UP
    assert shed.reason.startswith(f"gave up after {attempts} attempts")


def test_a_worker_that_goes_takes_its_cache_along_and_its_requests_move() -> None:
    """Each attempt ends by itself; the claims on the lost session count nowhere meanwhile."""
    pool = Pool("a", "b")
    (send,) = sends(pool.arrive(request(1, block_hashes=tuple(range(15)))))
    pool.accept(send)
    gone = send.placed.node
    pool.leave(gone)
    assert pool.claims.inflight(WorkerId(gone)).requests == 0
    (moved,) = sends(pool.lose(send, tokens=3))
    assert moved.placed.node != gone


def test_the_story_of_a_request_tells_its_way_in_order() -> None:
    """While it runs and after it has ended; without its prompt."""
    pool = Pool("a", "b")
    (send,) = sends(pool.arrive(request(1)))
    pool.accept(send)
    (moved,) = sends(pool.lose(send, tokens=3))
    pool.accept(moved)
    pool.finish(moved)
    first, second = send.placed.node, moved.placed.node
    assert [line.split(" ", 1)[1] for line in pool.scheduler.story(RequestId("r1"))] == [
        "arrived",
        f"placed on {first}@q8_0, attempt 1",
        f"accepted by {first}",
        f"lost on {first}: it broke",
        f"placed on {second}@q8_0, attempt 2",
        f"accepted by {second}",
        f"stop on {second}",
        "complete",
    ]
    assert pool.scheduler.story(RequestId("r2")) == ()


def test_a_request_nobody_can_answer_in_time_is_shed_with_its_code() -> None:
    """An unknown model at once, a target out of reach too."""
    pool = Pool("a")
    (unknown,) = pool.arrive(request(1, model=ModelRef(name="zz")))
    (hopeless,) = pool.arrive(request(2, slo=SloTargets(ttft_s=1e-6)))
    assert isinstance(unknown, Shed)
    assert isinstance(hopeless, Shed)
    assert (unknown.code, hopeless.code) == (ShedCode.UNKNOWN_MODEL, ShedCode.OUT_OF_REACH)
    assert len(pool.scheduler) == 0


def test_its_state_can_be_read_at_a_glance() -> None:
    """For whoever debugs."""
    pool = Pool("a")
    pool.arrive(request(1))
    assert repr(pool.scheduler) == "<Scheduler cost: 1 requests, 0 queued, 1 claims, 0 backing off>"
    assert repr(pool.claims) == "<Claims: 1 live, 1 not sent, on 1 workers>"
    assert repr(next(iter(pool.claims))) == "<Claim r1#1 on a@q8_0: not sent>"
    assert repr(pool.membership).endswith("1 ready; 1 sessions>")


def test_an_event_that_cannot_be_is_a_fault_of_the_caller() -> None:
    """A request arrives once; an attempt ends only where there is one."""
    pool = Pool("a")
    (send,) = sends(pool.arrive(request(1)))
    with pytest.raises(AssertionError, match="arrived twice"):
        pool.arrive(request(1))
    pool.finish(send)
    with pytest.raises(KeyError):
        pool.finish(send)


def test_requests_of_one_moment_spread_over_idle_workers() -> None:
    """Each sees the claims of those before it."""
    pool = Pool("a", "b")
    placed: list[Send] = [send for number in range(6) for send in sends(pool.arrive(request(number)))]
    assert sorted(one.placed.node for one in placed) == ["a"] * 3 + ["b"] * 3


def test_a_pause_that_ends_lets_who_waits_go_though_nothing_else_happens() -> None:
    """The scheduler asks to be woken then: no load report comes from a fleet that does nothing."""
    pool = Pool("a", limits=AdmissionLimits(patience_s=1000.0))
    pool.membership.failed(WorkerId("a"), "it hung")
    instructions = pool.arrive(request(1))
    (wake,) = [one for one in instructions if isinstance(one, WakeAt)]
    assert wake.at == 1.0
    pool.clock.set(0.5)
    assert sends(pool.tell(Tick())) == []
    pool.clock.set(wake.at)
    (send,) = sends(pool.tell(Tick()))
    assert send.placed.node == "a"
    pool.finish(send)
