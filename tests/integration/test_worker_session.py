"""The worker over a real gRPC session: hello, work, refusals, backpressure, replicas, work beside the jobs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.fleet_servicer import Fleet, serving
from tests.support.until import until_changed
from tests.support.worker_rig import Rig, generate, ready, running
from workers.session.session import SessionLimits

ENDS_WITHIN_S = 60.0


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with serving(Fleet()) as served:
        yield served


async def test_worker_enrols_says_hello_and_reports_its_model_ready(fleet: Fleet) -> None:
    """A worker without an id enrols first; its hello names it, and its models follow as they load."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        assert [one.profile.node for one in fleet.enrolled] == ["testnode"]
        assert session.hello.worker_id == "worker-1"
        assert session.hello.incarnation
        states = [one.model.state for one in session.of("model_progress")]
        assert states[-1] == pb.MODEL_STATE_READY


async def test_a_request_is_accepted_before_its_deltas_and_ends_in_one_final_delta(fleet: Fleet) -> None:
    """Accepted comes first, positions run without gap, exactly one delta has a finish reason and usage."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        session.send(**generate("r1", "hello world"))
        await session.until(lambda one: one.finish("r1"))
        kinds = [event.WhichOneof("event") for event in session.events]
        steps = [i for i, event in enumerate(session.events) if event.step.deltas]
        assert kinds.index("accepted") < steps[0]
        assert session.text("r1") == "hello world"
        position = 0
        for delta in session.deltas("r1"):
            assert delta.position == position
            position += delta.token_count
        assert sum(bool(delta.finish_reason) for delta in session.deltas("r1")) == 1
        assert session.finish("r1").usage.completion_tokens == 11


async def test_load_carries_the_last_command_seen(fleet: Fleet) -> None:
    """After a command the load says so, though nothing else changed."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        sequence = session.send(abort=pb.Abort(request_id="nobody", attempt=1))
        await session.until(lambda one: one.loads() and one.loads()[-1].last_command >= sequence)
        assert session.loads()[-1].last_command == sequence
        assert not session.deltas("nobody")


async def test_a_refusal_carries_code_counts_and_true_load(fleet: Fleet) -> None:
    """Too long is refused with the counts; an unknown model with its own code."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        session.send(**generate("long", "x" * 10_001))
        session.send(generate=pb.Generate(request_id="odd", attempt=1, model="other", text="x"))
        await session.until(lambda one: len(one.of("refusal")) == 2)
        refusals = {one.request_id: one for one in session.of("refusal")}
        assert refusals["long"].code == pb.REFUSAL_CODE_CONTEXT_LENGTH
        assert (refusals["long"].prompt_tokens, refusals["long"].context_tokens) == (10_001, 10_000)
        assert refusals["long"].HasField("load")
        assert refusals["odd"].code == pb.REFUSAL_CODE_MODEL_NOT_LOADED


async def test_a_condition_that_does_not_hold_is_refused_with_the_true_load(fleet: Fleet) -> None:
    """Nothing of it is queued, and the load that broke it comes along; the same without a condition is taken."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("first", "x" * 500, expected_prefill_tokens=500))
        session.send(**generate("second", "y", max_queued_prefill_tokens=400))
        session.send(**generate("third", "z"))
        refusal = (await session.until(lambda one: one.of("refusal")))[0]
        assert (refusal.request_id, refusal.code) == ("second", pb.REFUSAL_CODE_CONFLICT)
        assert refusal.load.prefill_tokens_pending > 400
        rig.engine.gate.set()
        await session.until(lambda one: one.finish("first") and one.finish("third"))
        assert not session.deltas("second")


async def test_abort_ends_the_job_in_the_engine(fleet: Fleet) -> None:
    """An abort frees the slot and is confirmed by the last delta."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 5000))
        await session.until(lambda one: one.of("accepted"))
        session.send(abort=pb.Abort(request_id="r1", attempt=1))
        rig.engine.gate.set()
        end = await session.until(lambda one: one.finish("r1"))
        assert end.finish_reason == pb.FINISH_REASON_ABORTED
        assert rig.engine.aborted == [("r1", 1)]


async def test_a_deadline_ends_the_job_with_an_error(fleet: Fleet) -> None:
    """The worker enforces deadlines by itself."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 100, deadline_s=0.05))
        await session.until(lambda one: one.of("accepted"))
        await until_changed(rig.engine.changed, lambda: rig.engine.aborted)
        rig.engine.gate.set()
        end = await session.until(lambda one: one.finish("r1"))
        assert end.finish_reason == pb.FINISH_REASON_ERROR
        assert "deadline of 0.05 s" in end.error


async def test_a_broken_session_aborts_its_requests_and_is_dialled_again(fleet: Fleet) -> None:
    """What came over a session dies with it; the next session starts clean."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 5000))
        await session.until(lambda one: one.of("accepted"))
        session.hang_up()
        second = await ready(fleet, 2)
        assert rig.engine.aborted == [("r1", 1)]
        assert second.hello.incarnation == session.hello.incarnation
        rig.engine.gate.set()
        second.send(**generate("r2", "again"))
        await second.until(lambda one: one.finish("r2"))
        assert second.deltas("r1") == []


async def test_a_router_that_stops_reading_gets_joined_deltas_and_holds_nobody_up(fleet: Fleet) -> None:
    """The engine runs on; what waited arrives complete, in fewer messages than steps."""
    limits = SessionLimits(backoff_first_s=0.02)
    rig = Rig(fleet, limits=limits)
    async with running(rig):
        session = await ready(fleet)
        fleet.reading.clear()
        text = "0123456789" * 900
        for number in range(40):
            session.send(**generate(f"r{number}", text))
        await until_changed(
            rig.engine.changed, lambda: rig.engine.load_figures().step_sequence >= 9000, within_s=ENDS_WITHIN_S
        )
        fleet.reading.set()
        await session.until(lambda one: all(one.finish(f"r{number}") for number in range(40)), timeout_s=ENDS_WITHIN_S)
        assert all(session.text(f"r{number}") == text for number in range(40))
        steps = [one for one in session.of("step") if one.deltas]
        assert len(steps) < 9000 / 2


async def test_a_session_at_its_bound_is_dropped(fleet: Fleet) -> None:
    """More output waiting than the bound allows ends the session, not the worker."""
    rig = Rig(fleet, limits=SessionLimits(backoff_first_s=0.02, max_bytes=50_000))
    async with running(rig):
        session = await ready(fleet)
        fleet.reading.clear()
        for number in range(60):
            session.send(**generate(f"r{number}", "x" * 9000))
        await asyncio.wait_for(session.ended.wait(), 60)
        fleet.reading.set()
        second = await ready(fleet, 2)
        assert second.hello.incarnation == session.hello.incarnation
        second.send(**generate("r", "alive"))
        await second.until(lambda one: one.finish("r"))
        assert second.text("r") == "alive"


async def test_the_replica_list_opens_and_closes_sessions(fleet: Fleet) -> None:
    """A replica that appears is dialled; one that vanishes is left; the same replica is never held twice."""
    rig = Rig(fleet)
    async with serving(Fleet("replica-1")) as other, running(rig):
        other.known.add("worker-1")
        session = await ready(fleet)
        both = [*fleet.replicas, *other.replicas]
        session.send(replicas=pb.ReplicaList(replicas=both))
        other.replicas = both
        twin = await ready(other)
        twin.send(**generate("r1", "from the other"))
        await twin.until(lambda one: one.finish("r1"))
        assert session.deltas("r1") == []
        session.send(replicas=pb.ReplicaList(replicas=fleet.replicas))
        await asyncio.wait_for(twin.ended.wait(), 60)
        assert len(fleet.sessions) == 1


async def test_ping_is_answered_and_score_answers_beside_the_jobs(fleet: Fleet) -> None:
    """Ping at once; score with log-probabilities."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        session.send(ping=pb.Ping(sequence=7))
        session.send(score=pb.Score(request_id="s", model="echo", quantization="none", text="abc"))
        await session.until(lambda one: one.of("pong") and one.of("score"))
        assert session.of("pong")[0].sequence == 7
        assert len(session.of("score")[0].logprobs) == 2
