"""Joining over real TLS on loopback, and every way it is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.joining.join_token import parse_token
from router.domain.worker import WorkerState
from router.sessions.listeners import start_listeners
from tests.support.joined import PROFILE, hello, join, running, worker_of
from tests.support.tls_pool import Head, ShiftedClock, head
from workers.joining.join import join_fleet
from workers.joining.pinning import NotTheRouter, Unreachable
from workers.session.channel import open_channel, open_enrolment_channel
from workers.session.enrolment import EnrolFailed


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


async def test_a_machine_joins_with_a_token_and_serves_over_mutual_tls(pool: Head, tmp_path: Path) -> None:
    """From the printed line to ready; name and labels are those of the enrolment."""
    joined = await join(pool, await pool.token(labels={"site": "lab"}), tmp_path / "mac")
    assert abs(joined.clock_skew_s) < 30
    async with running(worker_of(joined)):
        await pool.until(joined.membership.worker_id, WorkerState.READY)
        member = pool.membership.find("mac")
        assert dict(member.profile.labels) == {"site": "lab"}
    assert await pool.audit("join.admitted") == ["node mac"]


async def test_the_same_token_and_key_may_be_repeated_and_another_key_is_refused(pool: Head, tmp_path: Path) -> None:
    """A lost reply burns nothing; the token does not let a second machine in."""
    token = await pool.token()
    first = await join(pool, token, tmp_path / "mac")
    again = await join(pool, token, tmp_path / "mac")
    assert first.membership.worker_id == again.membership.worker_id
    with pytest.raises(EnrolFailed, match="used already"):
        await join(pool, token, tmp_path / "other")
    assert "used already" in (await pool.audit("join.refused"))[0]


async def test_a_wrong_token_is_refused_with_an_audit_line(pool: Head, tmp_path: Path) -> None:
    """The right pool, a secret that was never made here; the secret appears in no line."""
    token = await pool.token()
    wrong = token[:-6] + "AAAAAA"
    with pytest.raises(EnrolFailed, match="not known") as refusal:
        await join(pool, wrong, tmp_path / "mac")
    assert not refusal.value.retryable
    lines = await pool.security.store.audit_lines()
    assert "not known" in lines[-1].reason
    assert not any(wrong.rsplit(".", 1)[1] in str(line) for line in lines)


async def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    """By the router's clock."""
    clock = ShiftedClock()
    async with head(tmp_path / "head", clock=clock) as pool:
        token = await pool.token(ttl_s=60)
        clock.shift_s = 61.0
        with pytest.raises(EnrolFailed, match="expired"):
            await join(pool, token, tmp_path / "mac")
        assert "expired" in (await pool.audit("join.refused"))[0]


async def test_a_token_of_another_pool_sends_nothing(pool: Head, tmp_path: Path) -> None:
    """The CA's hash does not match: the machine turns away before it hands anything over."""
    async with head(tmp_path / "other head") as other:
        foreign = await other.token()
    with pytest.raises(NotTheRouter, match="another CA"):
        await join(pool, foreign, tmp_path / "mac")
    assert await pool.audit("join.refused") == []
    assert not list((tmp_path / "mac").rglob("key.pem"))


async def test_a_router_without_the_cas_key_cannot_pose_as_one(pool: Head, tmp_path: Path) -> None:
    """Showing the right CA in a certificate of one's own making is not enough: the CA must have signed it."""
    real = pool.security.authority
    assert real is not None
    async with head(tmp_path / "fake") as fake:
        forger = fake.security.authority
        assert forger is not None
        der = real._der()
        forger._der = lambda: der  # type: ignore[method-assign]
        again = await start_listeners(
            fake.service,
            fake.security.enroller,
            fake.security.config.grpc,
            authority=forger,
            clock=fake.security.clock,
            replica_id="fake",
        )
        try:
            token = parse_token(await pool.token())
            with pytest.raises(NotTheRouter, match="not as an allsorts router"):
                await join_fleet(f"127.0.0.1:{again.enrol_port}", token, PROFILE, tmp_path / "mac")
        finally:
            await again.stop()


async def test_a_known_key_needs_no_token_to_come_back(pool: Head, tmp_path: Path) -> None:
    """A Mac that was away for longer than its certificate lives is let in by its key; a stranger is not."""
    first = await join(pool, await pool.token(), tmp_path / "mac")
    back = await join(pool, None, tmp_path / "mac")
    assert back.membership.worker_id == first.membership.worker_id
    (tmp_path / "mac").rename(tmp_path / "kept")
    with pytest.raises(EnrolFailed, match="has not joined"):
        await join(pool, None, tmp_path / "mac")


async def test_revocation_cuts_the_session_at_once_and_holds_after_a_restart(tmp_path: Path) -> None:
    """Session, renewal, return by key and a fresh token: all refused, also by a router started anew."""
    async with head(tmp_path / "head") as pool:
        joined = await join(pool, await pool.token(), tmp_path / "mac")
        async with running(worker_of(joined)) as task:
            await pool.until(joined.membership.worker_id, WorkerState.READY)
            await pool.control.revoke("mac", "sold")
            ended = await asyncio.wait_for(task, 60)
        assert "revoked: sold" in ended.reason
        assert await pool.audit("worker.revoked") == ["sold"]
    async with head(tmp_path / "head") as pool:
        files = joined.files
        with pytest.raises(grpc.aio.AioRpcError, match="revoked: sold"):
            await hello(pool, joined, pb.Hello(protocol_version=1, worker_id=joined.membership.worker_id))
        assert await pool.audit("session.refused") == ["this worker was revoked: sold"]
        with pytest.raises(EnrolFailed, match="revoked: sold"):
            await join(pool, await pool.token(), tmp_path / "mac")
        async with open_enrolment_channel(pool.enrol_address, files.authority) as channel:
            by_key_alone = pb.EnrolRequest(certificate_request=files.certificate_request(), protocol_version=1)
            with pytest.raises(grpc.aio.AioRpcError, match="revoked: sold"):
                await FleetStub(channel).Enrol(by_key_alone, timeout=60)
        assert await pool.audit("join.refused") == ["this machine was revoked: sold"] * 2
        with pytest.raises(grpc.aio.AioRpcError, match="revoked"):
            async with open_channel(pool.session_address, files.security()) as channel:
                await FleetStub(channel).Renew(
                    pb.RenewRequest(certificate_request=files.certificate_request()), timeout=10
                )
        assert await pool.audit("renew.refused") == ["this machine was revoked: sold"]


async def test_a_revocation_made_on_the_store_reaches_a_running_session(pool: Head, tmp_path: Path) -> None:
    """Another replica, or a command on the head while HTTP is down: the session here ends too."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    async with running(worker_of(joined)) as task:
        await pool.until(joined.membership.worker_id, WorkerState.READY)
        await pool.security.store.set_cordoned(joined.membership.worker_id, True)
        await pool.changes_until(lambda: pool.membership.find("mac").cordoned)
        await pool.security.store.revoke(joined.membership.worker_id, "mac", "lost", 1.0)
        ended = await asyncio.wait_for(task, 60)
    assert "revoked: lost" in ended.reason


async def test_no_secret_is_ever_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tokens, keys and certificates' keys stay out of logs and audit lines, also when they are refused."""
    async with head(tmp_path / "head") as pool:
        token = await pool.token()
        joined = await join(pool, token, tmp_path / "mac")
        with pytest.raises(EnrolFailed) as refusal:
            await join(pool, token, tmp_path / "other")
        made = await pool.security.credentials.create_key({"name": "me"})
        lines = [str(line) for line in await pool.security.store.audit_lines(1000)]
    out, err = capfd.readouterr()
    everything = out + err + str(refusal.value) + "".join(lines)
    assert "join.admitted" in everything
    for secret in (token.rsplit(".", 1)[1], made["key"], joined.files.key.read_text().splitlines()[1]):
        assert secret not in everything


async def test_a_worker_cannot_speak_as_another(pool: Head, tmp_path: Path) -> None:
    """The certificate decides, not what hello claims."""
    mac = await join(pool, await pool.token(), tmp_path / "mac")
    other = await join(pool, await pool.token(), tmp_path / "other")
    with pytest.raises(grpc.aio.AioRpcError, match="another worker"):
        await hello(pool, mac, pb.Hello(protocol_version=1, worker_id=other.membership.worker_id))
    lines = [one for one in await pool.security.store.audit_lines() if one.event == "session.refused"]
    assert [(one.subject, "another worker" in one.reason) for one in lines] == [(mac.membership.worker_id, True)]


async def test_a_machine_with_a_long_name_joins(pool: Head, tmp_path: Path) -> None:
    """Its id must fit a certificate's common name (64 characters), or the session would not know it."""
    profile = replace(PROFILE, node="workstation-of-the-computational-linguistics-group-7.lab")
    joined = await join(pool, await pool.token(), tmp_path / "mac", profile)
    welcome = await hello(pool, joined, pb.Hello(protocol_version=1, worker_id=joined.membership.worker_id))
    assert welcome.welcome.node == profile.node


async def test_a_worker_cannot_give_itself_labels(pool: Head, tmp_path: Path) -> None:
    """Labels say which prompts a machine may see: only the operator's count."""
    joined = await join(pool, await pool.token(labels={"site": "lab"}), tmp_path / "mac")
    message = pb.Hello(protocol_version=1, worker_id=joined.membership.worker_id)
    message.profile.labels.update({"site": "clinic", "clearance": "secret"})
    await hello(pool, joined, message)
    assert dict(pool.membership.find("mac").profile.labels) == {"site": "lab"}


async def test_two_machines_of_one_name_get_two_names(pool: Head, tmp_path: Path) -> None:
    """Names are made unique at enrolment."""
    for folder, name in (("one", "mac"), ("two", "mac-2")):
        joined = await join(pool, await pool.token(), tmp_path / folder)
        welcome = await hello(pool, joined, pb.Hello(protocol_version=1, worker_id=joined.membership.worker_id))
        assert welcome.welcome.node == name


async def test_the_session_listener_wants_a_certificate_and_the_enrolment_listener_only_enrols(
    pool: Head, tmp_path: Path
) -> None:
    """Without a certificate there is no session on either port, and plain text is not understood."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    authority = joined.files.authority
    async with open_enrolment_channel(pool.session_address, authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await FleetStub(channel).Renew(pb.RenewRequest(), timeout=60)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    async with open_enrolment_channel(pool.enrol_address, authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await FleetStub(channel).Renew(pb.RenewRequest(), timeout=60)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        call = FleetStub(channel).Session()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    for address in (pool.session_address, pool.enrol_address):
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await FleetStub(channel).Enrol(pb.EnrolRequest(), timeout=60)


@pytest.mark.parametrize("request_pem", [b"garbage", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"x" * 20_000])
async def test_a_bad_certificate_request_is_refused(pool: Head, tmp_path: Path, request_pem: bytes) -> None:
    """One line, no token used."""
    token = await pool.token()
    joined = await join(pool, token, tmp_path / "mac")
    async with open_enrolment_channel(pool.enrol_address, joined.files.authority) as channel:
        request = pb.EnrolRequest(token=token, certificate_request=request_pem, protocol_version=1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await FleetStub(channel).Enrol(request, timeout=60)
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "certificate request" in (error.value.details() or "")


async def test_an_address_where_nobody_listens_is_said_so(tmp_path: Path) -> None:
    """The cause is named, not a timeout."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        token = parse_token("as1." + "A" * 43 + ".aa.bb")
        with pytest.raises(Unreachable, match="cannot be reached"):
            await join_fleet(f"127.0.0.1:{held.getsockname()[1]}", token, PROFILE, tmp_path)


async def test_private_files_are_private(pool: Head, tmp_path: Path) -> None:
    """The key that is this machine's identity is readable by its owner alone."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    for file in joined.files.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert joined.files.folder.stat().st_mode & 0o077 == 0
