"""Rule: what a router asks beside its jobs is answered, with a result or with an error, and never holds up the rest."""

import asyncio
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.echo_engine import EchoEngine
from tests.unit.workers.serving.conftest import Rig, running
from workers.engines.base import Scored
from workers.serving import control_commands
from workers.serving.control_commands import TOO_MANY


class Thinker(EchoEngine):
    """Scores when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def score(self, *asked: Any) -> Scored:
        await self.let.wait()
        return await super().score(*asked)


async def test_a_score_is_answered() -> None:
    """The answer names the request it is for."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        session.send(score=pb.Score(request_id="s", model="echo", quantization="none", text="abc"))
        scored = (await session.until(lambda one: one.of("score")))[0]
        assert (scored.request_id, len(scored.logprobs), scored.error) == ("s", 2, "")


async def test_a_model_is_loaded_and_unloaded_on_command() -> None:
    """Its progress is what the router hears."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        session.send(load_model=pb.LoadModel(model="more", path="more.file", quantization="none"))
        await session.ready("more")
        session.send(unload_model=pb.UnloadModel(model="more", quantization="none"))
        await session.until(lambda one: one.model_state("more") == pb.MODEL_STATE_UNLOADED)
        assert [one.model for one in rig.engine.models] == ["echo"]


async def test_one_too_many_is_answered_at_once(monkeypatch: Any) -> None:
    """The others go on; a load that nobody waits for is left out."""
    monkeypatch.setattr(control_commands.ControlCommands.__init__, "__kwdefaults__", {"max_at_once": 1})
    engine = Thinker()
    rig = Rig(make_engine=lambda: engine)
    async with running(rig):
        session = await rig.session()
        for request_id in ("first", "second"):
            session.send(score=pb.Score(request_id=request_id, model="echo", quantization="none", text="abc"))
        session.send(load_model=pb.LoadModel(model="more", path="more.file"))
        refused = (await session.until(lambda one: one.of("score")))[0]
        assert (refused.request_id, refused.error) == ("second", TOO_MANY)
        engine.let.set()
        await session.until(lambda one: len(one.of("score")) == 2)
        assert [one.model for one in engine.models] == ["echo"]


ORDER = pb.LoadModel(model="more", path="more.file", quantization="none", order="context=1 slots=1 tp=1 file=more.file")


async def test_a_load_that_several_routers_order_is_done_once_and_says_whose_order_it_is() -> None:
    """What is loaded, or on its way, is not loaded again: that would end as a failure of what serves."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        for _ in range(3):
            session.send(load_model=ORDER)
        await session.ready("more")
        told = [one.model for one in session.of("model_progress") if one.model.model == "more"]
        assert {one.ordered for one in told} == {ORDER.order}
        assert pb.MODEL_STATE_FAILED not in {one.state for one in told}
        assert [one.ordered for one in rig.worker.introduce().models] == ["", ORDER.order]


async def test_a_model_that_goes_takes_nothing_new_and_finishes_what_runs() -> None:
    """Routers hear at once that it is going; what is left at the deadline goes back to them."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(generate=pb.Generate(request_id="r", attempt=1, model="echo", quantization="none", text="ab"))
        await session.until(lambda one: one.of("accepted"))
        session.send(unload_model=pb.UnloadModel(model="echo", quantization="none", deadline_s=60.0))
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_UNLOADING)
        session.send(generate=pb.Generate(request_id="late", attempt=1, model="echo", quantization="none", text="ab"))
        late = (await session.until(lambda one: one.of("refusal")))[0]
        assert (late.request_id, late.code) == ("late", pb.REFUSAL_CODE_MODEL_NOT_LOADED)
        rig.engine.gate.set()
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_UNLOADED)
        assert not session.of("returned")


async def test_what_is_left_when_a_model_goes_is_returned() -> None:
    """It is answered elsewhere."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        rig.engine.gate.clear()
        session.send(generate=pb.Generate(request_id="r", attempt=1, model="echo", quantization="none", text="ab"))
        await session.until(lambda one: one.of("accepted"))
        session.send(unload_model=pb.UnloadModel(model="echo", quantization="none"))
        returned = (await session.until(lambda one: one.of("returned")))[0]
        assert (returned.request_id, returned.reason) == ("r", "echo is being unloaded")
        await session.until(lambda one: one.model_state("echo") == pb.MODEL_STATE_UNLOADED)
        rig.engine.gate.set()


async def test_an_idle_model_that_another_router_uses_stays() -> None:
    """The router that would let it go knows only its own requests; the worker knows all."""
    rig = Rig()
    async with running(rig):
        session = await rig.session()
        session.send(generate=pb.Generate(request_id="r", attempt=1, model="echo", quantization="none", text="ab"))
        await session.until(lambda one: one.of("accepted"))
        session.send(unload_model=pb.UnloadModel(model="echo", quantization="none", idle_s=3600.0))
        session.send(load_model=ORDER)
        await session.ready("more")
        assert {one.model for one in rig.engine.models} == {"echo", "more"}
        session.send(unload_model=pb.UnloadModel(model="more", quantization="none", idle_s=3600.0))
        await session.until(lambda one: one.model_state("more") == pb.MODEL_STATE_UNLOADED)
