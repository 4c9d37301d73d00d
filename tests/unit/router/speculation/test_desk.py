"""Rule: targets and drafts hear of one another once, and again when they come back; what does not work is held back
and tried again by itself.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from protos.contract.commands import AssignDraft, DraftTargets, RouterCommand
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import Capabilities
from router.domain.clock import ManualClock
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.speculation.desk import FIRST_HOLD_S, PATIENCE_S, DraftDesk
from tests.support import fleets


@dataclass
class Session:
    session_id: int
    sent: list[RouterCommand] = field(default_factory=list)

    def send(self, command: RouterCommand) -> int:
        self.sent.append(command)
        return len(self.sent)


def target(name: str = "t", *reports: DraftReport) -> WorkerView:
    able = Capabilities(takes_drafts=True)
    model = fleets.instance("q8_0", capabilities=able, tokenizer_fingerprint="f", weights_bytes=8_000)
    return fleets.worker(name, model, drafting=reports)


def drafter(name: str = "d") -> WorkerView:
    view = fleets.worker(name)
    model = fleets.instance("q4_0", model="s", tokenizer_fingerprint="f", weights_bytes=1_000)
    return replace(view, models=(), drafts=(model,), profile=replace(view.profile, draft_address=f"{name}:1"))


def report(paused: str = "", draft: str = "d") -> DraftReport:
    return DraftReport(model="m", quantization="q8_0", draft_worker_id=WorkerId(draft), paused=paused, rtt_s=0.01)


class Fleet:
    """Views that a test sets, and the sessions to them."""

    def __init__(self, *views: WorkerView) -> None:
        self.clock = ManualClock()
        self.views = {view.worker_id: view for view in views}
        self.sessions = {view.worker_id: Session(number) for number, view in enumerate(views)}
        self.desk = DraftDesk(self.snapshot, self.sessions.get, self.clock)  # type: ignore[arg-type]

    def snapshot(self) -> FleetSnapshot:
        return fleets.snapshot(*self.views.values())

    def look(self, *views: WorkerView, after_s: float = 1.0) -> None:
        self.clock.advance(after_s)
        for view in views:
            self.views[view.worker_id] = view
        self.desk.look()

    def heard(self, name: str) -> list[Any]:
        sent = self.sessions[WorkerId(name)].sent
        taken, sent[:] = list(sent), []
        return taken


def assigned(draft: str = "d") -> AssignDraft:
    return AssignDraft(
        model="m", quantization="q8_0", draft_address=f"{draft}:1", draft_worker_id=WorkerId(draft), draft_model="s",
        draft_quantization="q4_0",
    )  # fmt: skip


def nothing() -> AssignDraft:
    return AssignDraft(model="m", quantization="q8_0", draft_address="", draft_worker_id=WorkerId(""))


def test_both_hear_of_one_another_once() -> None:
    fleet = Fleet(target(), drafter())
    fleet.look()
    assert fleet.heard("t") == [assigned()]
    assert fleet.heard("d") == [DraftTargets(worker_ids=("t",))]
    fleet.look()
    fleet.look(target("t", report()))
    assert (fleet.heard("t"), fleet.heard("d")) == ([], [])
    assert fleet.desk.notes.drafts_for == {"d": ("t",)}


def test_who_comes_back_over_a_new_session_hears_it_again() -> None:
    fleet = Fleet(target(), drafter())
    fleet.look()
    fleet.heard("t")
    fleet.sessions[WorkerId("t")] = Session(77)
    fleet.look()
    assert fleet.heard("t") == [assigned()]


def test_a_draft_that_went_is_taken_away() -> None:
    fleet = Fleet(target(), drafter())
    fleet.look()
    fleet.heard("t")
    del fleet.views[WorkerId("d")]
    fleet.look()
    assert fleet.heard("t") == [nothing()]
    fleet.look(drafter())
    assert fleet.heard("t") == [assigned()]


def test_a_draft_that_another_router_assigned_is_taken_away_where_it_is_not_here() -> None:
    fleet = Fleet(target("t", report(draft="older")))
    fleet.look()
    assert fleet.heard("t") == [nothing()]


def test_what_does_not_work_is_held_back_says_why_and_is_tried_again() -> None:
    """A short trouble is the target's own affair."""
    fleet = Fleet(target(), drafter())
    fleet.look()
    fleet.heard("t")
    fleet.look(target("t", report("d:1 is not reached")))
    fleet.look(target("t", report()), after_s=PATIENCE_S)
    assert fleet.heard("t") == []
    fleet.look(target("t", report("d:1 is not reached")))
    fleet.look(after_s=PATIENCE_S)
    assert fleet.heard("t") == [nothing()]
    assert fleet.desk.notes.reasons == {"d": "d:1 is not reached", "t": "d: d:1 is not reached"}
    fleet.look(after_s=FIRST_HOLD_S)
    assert fleet.heard("t") == [assigned()]


def test_a_fleet_without_drafts_is_told_nothing_and_has_nothing_to_say() -> None:
    fleet = Fleet(target())
    fleet.look()
    assert fleet.heard("t") == []
    assert not fleet.desk.notes.reasons


def test_the_fleet_is_looked_at_once_a_second_at_most() -> None:
    """Loads arrive all the time."""
    fleet = Fleet(target(), drafter())
    fleet.look()
    fleet.heard("t")
    del fleet.views[WorkerId("d")]
    fleet.look(after_s=0.5)
    assert fleet.heard("t") == []
