"""What an operator does with models' files, as the machines are told."""

from dataclasses import replace
from typing import Any

import pytest

from protos.contract.commands import POOL, FetchModel, RemoveModel
from protos.contract.events import FetchProgress, FilesHeld
from protos.contract.files.content import FilePart, HeldModel, content_of
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.errors import InvalidRequest, NotFound, Unavailable
from router.fleet.membership import Membership
from router.fleet.model_control import HEAD, ModelControl
from router.fleet.model_rules import ModelRules
from router.scheduling.claims import Claims
from tests.support.fleets import instance, worker
from tests.support.scripted_worker import ScriptedWorker


def held(name: str, text: str, quantization: str = "q8_0") -> HeldModel:
    part = FilePart(name=f"{name}.gguf", size_bytes=10, sha256=text * 64)
    return HeldModel(model=name, quantization=quantization, format="gguf", content=content_of([part]))


class Fleet:
    def __init__(self, *own: HeldModel) -> None:
        self.clock = ManualClock(now=1.0)
        self.membership = Membership(FleetConfig(), self.clock, Claims())
        self.control = ModelControl(membership=self.membership, head=lambda: own)
        self.sent: list[Any] = []

    def join(
        self,
        name: str,
        *files: HeldModel,
        loaded: HeldModel | None = None,
        protocol: int = 2,
        tells: bool = True,
        **more: Any,
    ) -> None:
        content = loaded.content.sha256 if loaded else ""
        one = replace(instance(), model=loaded.model if loaded else "other", content=content)
        view = worker(name, one)
        profile = replace(view.profile, protocol_version=protocol)
        session = ScriptedWorker(view, session_id=len(self.sent) + 1, membership=self.membership, clock=self.clock)
        session.send = lambda command: self.sent.append((name, command)) or 1  # type: ignore[method-assign, func-returns-value]
        member = self.membership.join(session, profile, (one,), cordoned=False, **more)
        if tells:
            self.membership.set_files(member, FilesHeld(models=files, shares=True))

    def node(self, name: str) -> str:
        return self.membership.find(name).profile.node


@pytest.fixture
async def fleet() -> Fleet:
    return Fleet(held("ours", "a"))


async def test_rows_say_where_files_lie_and_where_they_are_loaded(fleet: Fleet) -> None:
    """One row for each content; a model whose content nobody told of has a row too."""
    one = held("m", "b")
    fleet.join("studio", one, loaded=one)
    fleet.join("mini", one)
    rows = {(row.model, row.content[:1]): (row.held_by, row.loaded_by) for row in fleet.control.rows()}
    assert rows["m", "b"] == (("mini", "studio"), ("studio",))
    assert rows["ours", "a"] == ((HEAD,), ())
    assert rows["other", ""] == ((), ("mini",))


@pytest.mark.parametrize(
    "asked", [{"model": "m"}, {"model": "m", "quantization": "q8_0"}, {"model": "", "content": "bbbb"}]
)
async def test_a_model_of_the_pool_is_asked_for_by_its_content(fleet: Fleet, asked: dict[str, str]) -> None:
    """Whoever has it."""
    one = held("m", "b")
    fleet.join("studio", one)
    fleet.join("mini")
    fleet.control.pull("mini", **asked)
    expected = FetchModel(model="m", quantization="q8_0", content=one.content, sources=(POOL,))
    assert fleet.sent == [("mini", expected)]


async def test_what_an_earlier_try_failed_for_is_over_with_the_next(fleet: Fleet) -> None:
    """Whoever follows a fetch must not take the last one's error for its own."""
    fleet.join("mini", held("m", "b"))
    worker_id = fleet.membership.find("mini").worker_id
    for name in ("ours", "m"):
        failed = FetchProgress(model=name, quantization="q8_0", error="no room")
        fleet.membership.files.tell_fetch(worker_id, failed)
    fleet.control.pull("mini", model="ours")
    fleet.control.remove("mini", model="m")
    assert [(one.model, one.error) for _, one in fleet.control.fetches()] == [("ours", "")]


async def test_what_the_head_has_and_what_a_url_has_can_be_pulled(fleet: Fleet) -> None:
    """A URL's model is called as its file, or as the operator says."""
    fleet.join("mini")
    fleet.control.pull("mini", model="ours")
    fleet.control.pull("mini", model="", sources=("https://example.org/Some-Model-Q4_K_M.gguf?x=1",))
    fleet.control.pull("mini", model="mine", sources=("hf:o/r/f.gguf",))
    assert [command.model for _, command in fleet.sent] == ["ours", "some-model", "mine"]


async def test_two_models_of_one_name_are_told_apart(fleet: Fleet) -> None:
    """The error lists them; a hash chooses."""
    fleet.join("studio", held("m", "b"), held("m", "c", "q4_k_m"))
    fleet.join("mini")
    with pytest.raises(InvalidRequest, match=r"several models in the pool: m@q4_k_m \(cccccccccccc\), m@q8_0 \(b"):
        fleet.control.pull("mini", model="m")
    fleet.control.pull("mini", model="m", quantization="q4_k_m")
    assert fleet.sent[0][1].content.sha256 == "c" * 64


async def test_a_machine_that_cannot_is_not_asked(fleet: Fleet) -> None:
    """Each with its reason."""
    fleet.join("old", protocol=1)
    fleet.join("remote", tells=False)
    fleet.join("limited", rules=ModelRules(allowed=("llama-*",)))
    with pytest.raises(Unavailable, match="older version"):
        fleet.control.pull("old", model="ours")
    with pytest.raises(Unavailable, match="keeps no model files"):
        fleet.control.pull("remote", model="ours")
    with pytest.raises(InvalidRequest, match="not let in to serve ours"):
        fleet.control.pull("limited", model="ours")
    with pytest.raises(NotFound, match="no files of nothing in the pool"):
        fleet.control.pull("limited", model="nothing")
    with pytest.raises(NotFound, match="no node 'nobody'"):
        fleet.control.pull("nobody", model="ours")
    assert fleet.sent == []


async def test_a_model_is_taken_away_where_it_is_not_loaded(fleet: Fleet) -> None:
    """By its content, so that nothing else goes."""
    one = held("m", "b")
    fleet.join("studio", one, loaded=one)
    fleet.join("mini", one)
    with pytest.raises(InvalidRequest, match=f"is {InstanceState.READY} on studio; have it unloaded first"):
        fleet.control.remove("studio", model="m")
    fleet.control.remove("mini", model="m")
    assert fleet.sent == [("mini", RemoveModel(model="m", quantization="q8_0", content="b" * 64))]
    assert fleet.membership.member(WorkerId("nobody")) is None
