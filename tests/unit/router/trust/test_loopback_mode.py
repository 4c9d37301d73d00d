"""The loopback pool without secrets."""

import tracemalloc

import pytest

from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import EnrolRefused, EnrolReply, EnrolRequest, ReasonCode
from protos.contract.worker import Hardware, Profile
from router.errors import NotAllowed
from router.trust.enroller import Peer
from router.trust.loopback_mode import OpenAuthorizer, OpenEnroller

REQUEST = EnrolRequest(
    profile=Profile(node="mac", engine="llama.cpp", hardware=Hardware(kind="apple", name="Apple M4"))
)
NEARBY = Peer(address="ipv4:127.0.0.1:4711")


async def enrol(enroller: OpenEnroller) -> WorkerId:
    reply = await enroller.enrol(REQUEST, NEARBY)
    assert isinstance(reply, EnrolReply)
    return reply.worker_id


async def test_twins_get_two_ids_and_two_names() -> None:
    """Two workers alike on one machine never share an identity."""
    authorizer = OpenAuthorizer()
    enroller = OpenEnroller(authorizer, replicas=list)
    first, second = await enrol(enroller), await enrol(enroller)
    assert first != second
    assert {(await authorizer.admit(one, None)).node for one in (first, second)} == {"mac", "mac-2"}


async def test_a_worker_that_lost_its_id_gets_it_back_while_no_twin_is_live() -> None:
    """The same machine and engine is the same worker, unless that id has a session."""
    live: set[WorkerId] = set()
    authorizer = OpenAuthorizer(is_live=lambda one: one in live)
    enroller = OpenEnroller(authorizer, replicas=list)
    first = await enrol(enroller)
    await authorizer.admit(first, None)
    live.add(first)
    other = await enrol(enroller)
    assert other != first
    live.clear()
    assert await enrol(enroller) == first


async def test_an_id_from_before_a_router_restart_is_admitted_with_its_name() -> None:
    """A worker that kept its id need not enrol again."""
    worker_id = await enrol(OpenEnroller(OpenAuthorizer(), replicas=list))
    admitted = await OpenAuthorizer().admit(worker_id, None)
    assert (admitted.worker_id, admitted.node) == (worker_id, "mac")


async def test_cordons_and_revocations_hold_while_the_router_runs() -> None:
    """Intent without a store lives in memory."""
    authorizer = OpenAuthorizer()
    worker_id = authorizer.issue("mac", "llama.cpp", "")
    await authorizer.set_cordoned(worker_id, True)
    assert (await authorizer.admit(worker_id, None)).cordoned
    await authorizer.revoke(worker_id, "mac", "sold")
    with pytest.raises(NotAllowed, match="revoked: sold"):
        await authorizer.admit(worker_id, None)


async def test_what_is_remembered_of_a_worker_is_short() -> None:
    """Thousands of ids are kept: a profile of megabytes must not stay with each."""
    authorizer = OpenAuthorizer()
    enroller = OpenEnroller(authorizer, replicas=list)
    long = "x" * 1_000_000
    request = EnrolRequest(profile=Profile(node=long, engine=long, hardware=Hardware(kind="cpu", name=long)))
    tracemalloc.start()
    try:
        for _ in range(50):
            await enroller.enrol(request, NEARBY)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_a_peer_beyond_loopback_is_refused() -> None:
    """Even if someone puts a plain listener on another interface, nobody gets in."""
    enroller = OpenEnroller(OpenAuthorizer(), replicas=list)
    refused = await enroller.enrol(REQUEST, Peer(address="ipv4:192.0.2.7:4711"))
    assert isinstance(refused, EnrolRefused)
    assert refused.code is ReasonCode.LOOPBACK_ONLY
    assert "own machine only" in refused.reason


@pytest.mark.parametrize("claimed", ["", "a b", "x" * 200, "line\nbreak"])
async def test_a_malformed_id_is_refused(claimed: str) -> None:
    """Ids end up in logs and tables."""
    with pytest.raises(NotAllowed):
        await OpenAuthorizer().admit(claimed, None)
