"""The worker over a real gRPC session: hello, work, backpressure, loss, drain, sleep, a dying engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.echo_engine import EchoEngine
from tests.support.fleet_servicer import Fleet, SessionEnd, serving
from workers.engines.base import ModelSpec
from workers.enrol import enrol
from workers.facts import Hardware, Profile
from workers.session import SessionLimits
from workers.worker import Ended, Worker, WorkerSetup

PROFILE = Profile(node="testnode", hardware=Hardware(kind="cpu", name="test"), engine="echo")
QUICK = SessionLimits(backoff_first_s=0.02, backoff_last_s=0.1)


class Rig:
    """A worker and the engines it made."""

    def __init__(
        self, *fleets: Fleet, model: str = "echo.file", limits: SessionLimits = QUICK, worker_id: str = ""
    ) -> None:
        self.engines: list[EchoEngine] = []
        first = fleets[0].address
        self.worker = Worker(
            WorkerSetup(
                make_engine=self._make,
                profile=PROFILE,
                routers=(first,),
                models=(ModelSpec(name="echo", path=model),),
                enrol=lambda: enrol(first, PROFILE),
                limits=limits,
                worker_id=worker_id,
                drain_s=0.2,
            )
        )

    def _make(self) -> EchoEngine:
        self.engines.append(EchoEngine())
        return self.engines[-1]

    @property
    def engine(self) -> EchoEngine:
        return self.engines[-1]


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[Ended]]:
    """The worker at work; afterwards it has ended and its engine is closed."""
    task = asyncio.create_task(rig.worker.run(signals=False))
    try:
        yield task
    finally:
        rig.worker.stop("test over")
        rig.worker.stop("test over")
        await asyncio.gather(task, return_exceptions=True)
        assert rig.engine.closed
        leftovers = [
            one for one in asyncio.all_tasks() if one.get_name().startswith(("session ", "steps of", "submit "))
        ]
        assert leftovers == []


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with serving(Fleet()) as served:
        yield served


async def ready(fleet: Fleet, number: int = 1) -> SessionEnd:
    session = await fleet.session(number)
    await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_READY)
    return session


def generate(request_id: str, text: str, **more: object) -> dict[str, pb.Generate]:
    command = pb.Generate(request_id=request_id, attempt=1, model="echo", quantization="none", text=text, **more)
    return {"generate": command}


async def test_worker_enrols_says_hello_and_reports_its_model_ready(fleet: Fleet) -> None:
    """A worker without an id enrols first; its hello names it, and its models follow as they load."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        assert [one.node for one in fleet.enrolled] == ["testnode"]
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
        await session.until(lambda one: one.loads() and one.loads()[-1].last_command == sequence)


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
        while not rig.engine.aborted:
            await asyncio.sleep(0.01)
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
        while rig.engine.load_figures().step_sequence < 9000:
            await asyncio.sleep(0.01)
        fleet.reading.set()
        await session.until(lambda one: all(one.finish(f"r{number}") for number in range(40)), timeout_s=60)
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
        second.send(**generate("r", "alive"))
        await second.until(lambda one: one.finish("r"))


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
        await asyncio.wait_for(twin.ended.wait(), 20)
        assert len(fleet.sessions) == 1


async def test_drain_returns_what_is_not_finished_and_undrain_takes_work_again(fleet: Fleet) -> None:
    """Draining refuses new work, lets running work finish until the deadline, gives the rest back."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("slow", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        session.send(drain=pb.Drain(deadline_s=0.05))
        returned = await session.until(lambda one: one.of("returned"))
        assert returned[0].request_id == "slow"
        session.send(**generate("new", "y"))
        refusal = (await session.until(lambda one: one.of("refusal")))[0]
        assert refusal.code == pb.REFUSAL_CODE_DRAINING
        rig.engine.gate.set()
        session.send(undrain=pb.Undrain())
        session.send(**generate("after", "z"))
        await session.until(lambda one: one.finish("after"))
        kinds = [one.kind for one in session.of("leaving")]
        assert kinds == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_AWAKE]


async def test_announced_sleep_returns_everything_at_once(fleet: Fleet) -> None:
    """Sleeping is said before the requests come back; waking opens the doors again."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.toggle_sleep()
        await session.until(lambda one: one.of("returned"))
        kinds = [event.WhichOneof("event") for event in session.events]
        assert kinds.index("leaving") < kinds.index("returned")
        rig.engine.gate.set()
        rig.worker.wake()
        session.send(**generate("r2", "awake"))
        await session.until(lambda one: one.finish("r2"))


async def test_stop_drains_says_bye_and_ends(fleet: Fleet) -> None:
    """A stopped worker finishes what runs, says bye as its last word and exits with status 0."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        session.send(**generate("r1", "x" * 50))
        await session.until(lambda one: one.of("accepted"))
        rig.worker.stop("enough")
        ended = await asyncio.wait_for(task, 20)
        assert ended == Ended(code=0, reason="enough")
        await asyncio.wait_for(session.ended.wait(), 20)
        assert session.text("r1") == "x" * 50
        assert [one.kind for one in session.of("leaving")] == [pb.LEAVING_KIND_DRAINING, pb.LEAVING_KIND_BYE]


async def test_a_model_that_cannot_be_loaded_is_shown_failed_and_the_worker_stays(fleet: Fleet) -> None:
    """The error text reaches the router; the session lives on; a later LoadModel may succeed."""
    rig = Rig(fleet, model="/missing/model.gguf")
    async with running(rig):
        session = await fleet.session()
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_FAILED)
        assert "no such file" in session.of("model_progress")[-1].model.error
        session.send(load_model=pb.LoadModel(model="echo", path="there.file"))
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_READY)
        session.send(unload_model=pb.UnloadModel(model="echo", quantization="none"))
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_UNLOADED)


async def test_a_dead_engine_ends_its_requests_and_is_started_again(fleet: Fleet) -> None:
    """Running requests end with an error delta; the model says why it loads again, then is ready again."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        rig.engine.gate.clear()
        session.send(**generate("r1", "x" * 100))
        await session.until(lambda one: one.of("accepted"))
        rig.engine.kill("segmentation fault")
        end = await session.until(lambda one: one.finish("r1"))
        assert end.finish_reason == pb.FINISH_REASON_ERROR
        assert "segmentation fault" in end.error
        told = lambda one: [progress.model for progress in one.of("model_progress")]  # noqa: E731
        died = lambda model: model.state == pb.MODEL_STATE_LOADING and "segmentation fault" in model.error  # noqa: E731
        await session.until(
            lambda one: any(died(model) for model in told(one)) and told(one)[-1].state == pb.MODEL_STATE_READY
        )
        assert len(rig.engines) == 2
        session.send(**generate("r2", "reborn"))
        await session.until(lambda one: one.finish("r2"))


async def test_an_engine_that_keeps_dying_ends_the_worker(fleet: Fleet) -> None:
    """Restarts are bounded; then the worker leaves with the reason and status 1."""
    rig = Rig(fleet)
    async with running(rig) as task:
        for number in range(1, 5):
            await ready(fleet)
            while len(rig.engines) < number:
                await asyncio.sleep(0.01)
            rig.engine.kill("again")
        ended = await asyncio.wait_for(task, 20)
        assert ended.code == 1
        assert "keeps dying" in ended.reason


async def test_ping_is_answered_and_score_and_embed_answer_beside_the_jobs(fleet: Fleet) -> None:
    """Ping at once; score with log-probabilities; embed with the engine's refusal as its error."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        session.send(ping=pb.Ping(sequence=7))
        session.send(score=pb.Score(request_id="s", model="echo", quantization="none", text="abc"))
        session.send(embed=pb.Embed(request_id="e", model="echo", quantization="none", text="abc"))
        await session.until(lambda one: one.of("pong") and one.of("score") and one.of("embed"))
        assert session.of("pong")[0].sequence == 7
        assert len(session.of("score")[0].logprobs) == 2
        assert "no embeddings" in session.of("embed")[0].error


async def test_a_router_that_forgot_the_worker_lets_it_enrol_again(fleet: Fleet) -> None:
    """After UNAUTHENTICATED the worker enrols anew and comes back under its new id."""
    rig = Rig(fleet)
    async with running(rig):
        session = await ready(fleet)
        fleet.known.clear()
        rig.worker._enrolled_at = 0.0  # long ago
        session.hang_up()
        second = await ready(fleet, 2)
        assert second.hello.worker_id == "worker-2"


async def test_an_identity_of_an_earlier_life_that_is_dismissed_enrols_anew(fleet: Fleet) -> None:
    """A router that lost its store dismisses whom it does not know; on loopback the worker asks to be let in."""
    fleet.known.add("old")
    rig = Rig(fleet, worker_id="old")
    async with running(rig):
        session = await ready(fleet)
        session.send(dismiss=pb.Dismiss(reason="not enrolled here", permanent=True))
        await asyncio.wait_for(session.ended.wait(), 20)
        number = 2
        while (second := await fleet.session(number)).hello.worker_id == "old":
            number += 1
        assert second.hello.worker_id == "worker-1"


async def test_a_worker_turned_away_right_after_enrolling_gives_up(fleet: Fleet) -> None:
    """Asking for ever would help nobody: status 1 and the router's reason."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        fleet.known.clear()
        session.hang_up()
        ended = await asyncio.wait_for(task, 20)
        assert ended.code == 1
        assert "not known here" in ended.reason


async def test_a_permanent_dismissal_ends_the_worker(fleet: Fleet) -> None:
    """Revoked means gone: status 1 and the router's reason."""
    rig = Rig(fleet)
    async with running(rig) as task:
        session = await ready(fleet)
        session.send(dismiss=pb.Dismiss(reason="revoked by the operator", permanent=True))
        ended = await asyncio.wait_for(task, 20)
        assert ended.code == 1
        assert "revoked by the operator" in ended.reason
