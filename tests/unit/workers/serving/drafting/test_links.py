"""Rule: what a router assigns reaches the engine that runs now, once its model is ready and again after a restart; how
it goes is told, and repeated only when there is news.
"""

from dataclasses import replace

from protos.contract.commands import AssignDraft
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.stream import RefusalCode
from protos.contract.worker import InstanceState, ModelInstance
from workers.drafting.link import DraftLink
from workers.engines.base import Refused
from workers.serving.drafting.links import REPEAT_EVERY_S, DraftLinks

ME = WorkerId("target")
MODEL = ModelInstance(model="m", quantization="q8_0", tokenizer_fingerprint="f")
ASSIGNED = AssignDraft(
    model="m", quantization="q8_0", draft_address="d:1", draft_worker_id=WorkerId("d"), draft_model="s",
    draft_quantization="q4_0",
)  # fmt: skip
LINK = DraftLink(
    address="d:1", draft_worker_id=WorkerId("d"), own_worker_id=ME, model="s", quantization="q4_0",
    tokenizer_fingerprint="f",
)  # fmt: skip
REPORT = DraftReport(model="m", quantization="q8_0", draft_worker_id=WorkerId("d"), rounds=1)


class Engine:
    """Takes drafts, or does not."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.links: list[DraftLink | None] = []
        self.reports: tuple[DraftReport, ...] = ()

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        if self.refuses and link is not None:
            raise Refused(RefusalCode.UNSUPPORTED, "it takes no drafts")
        self.links.append(link)

    def draft_reports(self) -> tuple[DraftReport, ...]:
        return self.reports


class Host:
    """The engine that runs now, and where its model stands."""

    def __init__(self, engine: Engine, state: InstanceState = InstanceState.READY) -> None:
        self.engine = engine
        self.state = state
        self.said: list[DraftReport] = []
        self.links = DraftLinks(
            self,  # type: ignore[arg-type]
            models=lambda: (replace(MODEL, state=self.state),), say=self.said.append, tls=None,
        )  # fmt: skip


async def test_an_assignment_reaches_the_engine_and_is_taken_back() -> None:
    host = Host(Engine())
    host.links.assign(ME, ASSIGNED)
    host.links.assign(ME, replace(ASSIGNED, draft_address=""))
    assert host.engine.links == [LINK, None]


async def test_a_model_that_is_not_ready_gets_its_draft_when_it_is_and_a_new_engine_too() -> None:
    host = Host(Engine(), InstanceState.LOADING)
    host.links.assign(ME, ASSIGNED)
    assert host.engine.links == []
    host.state = InstanceState.READY
    host.links.hand_all(ME)
    assert host.engine.links == [LINK]
    host.engine = Engine()
    host.links.hand_all(ME)
    assert host.engine.links == [LINK]


async def test_models_that_are_not_here_are_left_alone() -> None:
    host = Host(Engine())
    host.links.assign(ME, replace(ASSIGNED, model="other"))
    assert host.engine.links == []


async def test_an_engine_that_takes_no_drafts_says_so_to_the_router() -> None:
    host = Host(Engine(refuses=True))
    host.links.assign(ME, ASSIGNED)
    host.links.tell(0.0)
    assert [one.paused for one in host.said] == ["it takes no drafts"]
    host.links.assign(ME, replace(ASSIGNED, draft_address=""))
    host.links.tell(1.0)
    assert len(host.said) == 1


async def test_news_are_told_and_what_is_known_is_repeated_seldom() -> None:
    """Smoothed figures alone are no news."""
    host = Host(Engine())
    host.links.assign(ME, ASSIGNED)
    host.engine.reports = (REPORT,)
    host.links.tell(0.0)
    host.engine.reports = (replace(REPORT, rtt_s=0.5, wasted_s=1.0),)
    host.links.tell(1.0)
    assert len(host.said) == 1
    host.engine.reports = (replace(REPORT, rounds=2),)
    host.links.tell(2.0)
    assert host.said[-1].rounds == 2
    host.links.tell(2.0 + REPEAT_EVERY_S)
    assert len(host.said) == 3


async def test_what_nobody_assigned_is_not_told() -> None:
    host = Host(Engine())
    host.engine.reports = (REPORT,)
    host.links.tell(0.0)
    assert host.said == []
