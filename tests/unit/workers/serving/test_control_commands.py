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
