"""GET /admin/explain: from memory, from what any replica wrote, or a 404 that says whose memory it was; and why a
request was refused, worker by worker.
"""

from typing import Any

import httpx
import pytest

from protos.contract.ids import RequestId, WorkerId
from router.dispatch.admission_queue import error_of
from router.domain.placement import Exclusion, Exclusions, FilterName, NoCandidate
from router.http.admin.rejection_log import MAX_REJECTIONS, RejectionLog
from router.http.server.asgi import HttpApp
from router.scheduling.admission.interfaces import Shed
from tests.support.http_surface import StillFleet, WordPipeline, http_app, surface

REFUSED = NoCandidate(
    model="m",
    exclusions=Exclusions(
        tuple(
            Exclusion(
                worker_id=WorkerId(f"w{n}"),
                node=f"mac-{n}",
                filter=FilterName.LABELS,
                reason="lacks the label site=clinic",
            )
            for n in range(1000)
        )
    ),
)


async def explained(app: HttpApp, request_id: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return await client.get(f"/admin/explain/{request_id}")


def second_of_two(archive: Any) -> HttpApp:
    fleet = StillFleet()
    return http_app(
        pipeline=WordPipeline(),
        fleet=fleet,
        control=fleet,
        credentials=fleet,
        explainer=fleet,
        replica="router-1",
        replicas=2,
        archive=archive,
    )


async def test_what_another_replica_wrote_is_found_on_disk() -> None:
    """With a file of records every replica explains what any of them served."""
    app = second_of_two(lambda request_id: [b'{"request_id":"%s"}' % request_id.encode()])
    reply = await explained(app, "req-elsewhere")
    assert (reply.status_code, reply.json()) == (
        200,
        {"request_id": "req-elsewhere", "records": [{"request_id": "req-elsewhere"}]},
    )
    assert (await explained(app, "req-known")).json() == {"request_id": "req-known", "candidates": [], "records": []}


@pytest.mark.parametrize("archive", [None, lambda _: []])
async def test_a_404_says_which_replica_was_asked_and_of_how_many(archive: Any) -> None:
    """A client can go on until it has heard all of them."""
    reply = await explained(second_of_two(archive), "req-9")
    assert reply.status_code == 404
    assert (reply.json()["replica"], reply.json()["replicas"]) == ("router-1", 2)
    assert "at router-1, one of 2 router replicas" in reply.json()["error"]["message"]


async def test_a_refusal_is_short_for_the_client_and_whole_for_the_operator() -> None:
    """A thousand workers' names, models and labels are no business of whoever may send prompts."""
    shed = Shed(request_id=RequestId("r"), code="no_worker", reason=REFUSED.reasons(), no_candidate=REFUSED)
    on = surface(refuse_with=error_of(shed))
    reply = await on.chat()
    assert reply.status_code == 503
    assert len(reply.text) < 1000
    assert "of 1000 workers, 1000 without a label the request needs" in reply.json()["error"]["message"]
    found = (await explained(on.app, reply.headers["x-request-id"])).json()
    assert found["records"] == []
    assert len(found["refused"]["exclusions"]) == 1000
    assert found["refused"]["exclusions"][7]["node"] == "mac-7"


def test_rejections_are_bounded() -> None:
    """By number and by the workers they name; the newest stays however large."""
    book, shed = RejectionLog(), Shed(request_id=RequestId("r"), code="no_worker", reason="no", no_candidate=REFUSED)
    for number in range(200):
        book.note(f"r{number}", error_of(shed))
    held = [number for number in range(200) if book.find(f"r{number}")]
    assert held == list(range(200 - len(held), 200))
    assert len(held) == 65
    few = Shed(request_id=RequestId("r"), code="no_worker", reason="no", no_candidate=NoCandidate(model="m"))
    for number in range(2 * MAX_REJECTIONS):
        book.note(f"s{number % (MAX_REJECTIONS + 5)}", error_of(few))
    assert sum(book.find(f"s{number}") is not None for number in range(2 * MAX_REJECTIONS)) == MAX_REJECTIONS
