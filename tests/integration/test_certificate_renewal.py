"""Certificates are short-lived: renewed in time whatever the clocks say, and none outlives what stands on it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.ids import WorkerId
from router.domain.worker import WorkerState
from router.trust.authority import SERVER_HOURS
from tests.support.joined import PROFILE, join, running, worker_of
from tests.support.tls_pool import Head, ShiftedClock, head
from tests.support.until import until_changed
from workers.joining import join as joining
from workers.joining.join import Joined, renew
from workers.joining.membership_files import MembershipFiles, MembershipRecord
from workers.session.channel import open_channel
from workers.session.enrolment import EnrolFailed


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


async def test_a_certificate_is_renewed_for_its_own_key_only(pool: Head, tmp_path: Path) -> None:
    """Renewal over the session's port gives a later end; a request for another key is refused."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    before = joined.files.certificate.read_bytes()
    fresh = await renew(joined.files)
    assert fresh.worker_id == joined.membership.worker_id
    assert joined.files.certificate.read_bytes() != before
    other = await join(pool, await pool.token(), tmp_path / "other")
    async with open_channel(pool.session_address, joined.files.security()) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="another key"):
            await FleetStub(channel).Renew(
                pb.RenewRequest(certificate_request=other.files.certificate_request()), timeout=10
            )


class Kept:
    def __init__(self) -> None:
        self.memberships: list[MembershipRecord] = []
        self.another = asyncio.Event()

    async def until(self, number: int) -> None:
        await until_changed(self.another, lambda: len(self.memberships) >= number)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Renewals, as they are written down."""
    found = Kept()
    keep = MembershipFiles.keep

    def counted(files: MembershipFiles, certificate_pem: bytes, membership: MembershipRecord) -> None:
        keep(files, certificate_pem, membership)
        found.memberships.append(membership)
        found.another.set()

    monkeypatch.setattr(MembershipFiles, "keep", counted)
    return found


@contextlib.asynccontextmanager
async def renewing(joined: Joined) -> AsyncIterator[None]:
    task = asyncio.create_task(joining.keep_renewed(joined.files, PROFILE))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_renewal_goes_on_by_itself(
    pool: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept
) -> None:
    """Over the session's port, one after the other, for the same worker."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    monkeypatch.setattr(joining, "RENEW_AT", 0.0)
    async with renewing(joined):
        await kept.until(3)
    assert {one.worker_id for one in kept.memberships} == {joined.membership.worker_id}
    assert len(await pool.audit("join.admitted")) == 1


async def test_a_certificate_that_ended_is_replaced_by_the_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept
) -> None:
    """The lid was closed for longer than the certificate lives: TLS does not take it any more, enrolment does."""
    clock = ShiftedClock()
    clock.shift_s = -30 * 3600.0
    async with head(tmp_path / "head", clock=clock) as pool:
        joined = await join(pool, await pool.token(), tmp_path / "mac")
        clock.shift_s = 0.0
        with pytest.raises(EnrolFailed):
            await renew(joined.files)
        monkeypatch.setattr(joining, "RENEW_AT", 0.0)
        async with renewing(joined):
            await kept.until(2)
        assert len(await pool.audit("join.admitted")) == 2
        assert kept.memberships[-1].worker_id == joined.membership.worker_id
        await renew(joined.files)


class FakeTime:
    """This machine's clocks, which sleeping moves on, and its wall clock, which may be wrong or be set anew.

    Stands in for the modules ``time`` and ``asyncio`` in ``workers.joining.join``; naps for ever once ``enough`` was
    kept.
    """

    def __init__(self, kept: Kept, *, wrong_s: float = 0.0, set_after: int = 0) -> None:
        self.naps: list[float] = []
        self._kept = kept
        self._wrong_s = wrong_s
        self._set_after = set_after

    def time(self) -> float:
        return time.time() + self._wrong_s + sum(self.naps)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.naps)

    async def sleep(self, seconds: float) -> None:
        if len(self._kept.memberships) >= 2:
            await asyncio.Event().wait()
        self.naps.append(seconds)
        if len(self.naps) == self._set_after:
            self._wrong_s += 3600.0
        await asyncio.sleep(0)


@pytest.mark.parametrize("wrong_s", [20 * 3600.0, -20 * 3600.0])
async def test_a_wrong_clock_renews_in_time_and_not_all_the_time(
    pool: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept, wrong_s: float
) -> None:
    """A machine most of a certificate's life ahead once renewed without end; its clock decides nothing now."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    clock = FakeTime(kept, wrong_s=wrong_s)
    monkeypatch.setattr(joining, "time", clock)
    monkeypatch.setattr(joining, "asyncio", clock)
    async with renewing(joined):
        await kept.until(2)
    assert sum(clock.naps) == pytest.approx(16 * 3600, rel=0.001)


async def test_a_clock_that_is_set_anew_makes_the_certificate_due(
    pool: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Kept
) -> None:
    """So does a sleep, through which only the wall clock runs on: nobody knows how old the certificate is then."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    clock = FakeTime(kept, set_after=3)
    monkeypatch.setattr(joining, "time", clock)
    monkeypatch.setattr(joining, "asyncio", clock)
    async with renewing(joined):
        await kept.until(2)
    assert len(clock.naps) == 3


async def test_renewal_stops_when_the_machine_was_revoked(
    pool: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not knock for ever."""
    joined = await join(pool, await pool.token(), tmp_path / "mac")
    await pool.security.store.revoke(joined.membership.worker_id, "mac", "sold", 1.0)
    monkeypatch.setattr(joining, "RENEW_AT", 0.0)
    await asyncio.wait_for(joining.keep_renewed(joined.files, PROFILE), 60)
    assert any("sold" in reason for reason in await pool.audit("renew.refused"))


async def test_the_listener_shows_a_fresh_certificate_after_half_its_life(tmp_path: Path) -> None:
    """A router that runs for months never shows one that has ended."""
    clock = ShiftedClock()
    async with head(tmp_path / "head", clock=clock) as pool:
        from workers.joining.pinning import fetch

        first = await fetch("127.0.0.1", pool.listening.enrol_port)
        clock.shift_s = SERVER_HOURS * 3600 * 0.6
        second = await fetch("127.0.0.1", pool.listening.enrol_port)
        third = await fetch("127.0.0.1", pool.listening.enrol_port)
        assert first.valid_until_unix_s < max(second.valid_until_unix_s, third.valid_until_unix_s)
        assert first.authority_sha256 == third.authority_sha256


class SkippingClock(ShiftedClock):
    """Hours pass, on both clocks, when the test says so."""

    def now(self) -> float:
        return super().now() + self.shift_s


async def test_a_session_ends_with_its_certificate(tmp_path: Path) -> None:
    """Nobody stays for ever on a certificate that would not be accepted again."""
    clock = SkippingClock()
    async with head(tmp_path / "head", clock=clock, ping_interval_s=0.05) as pool:
        joined = await join(pool, await pool.token(), tmp_path / "mac")
        async with running(worker_of(joined)):
            await pool.until(joined.membership.worker_id, WorkerState.READY)
            session = pool.membership.session_of(WorkerId(joined.membership.worker_id))
            assert session is not None
            clock.shift_s = joined.membership.expires_at_unix_s - clock.wall() + 1.0
            reason = await asyncio.wait_for(session.ended, 60)
            assert "certificate has ended" in reason


async def test_a_renewed_certificate_keeps_the_session(tmp_path: Path) -> None:
    """Renewal happens beside the streams, which do not notice."""
    clock = SkippingClock()
    async with head(tmp_path / "head", clock=clock, ping_interval_s=0.05, silence_s=1e9) as pool:
        joined = await join(pool, await pool.token(), tmp_path / "mac")
        async with running(worker_of(joined)):
            await pool.until(joined.membership.worker_id, WorkerState.READY)
            session = pool.membership.session_of(WorkerId(joined.membership.worker_id))
            assert session is not None
            clock.shift_s = (joined.membership.expires_at_unix_s - clock.wall()) / 2
            await renew(joined.files)
            clock.shift_s = joined.membership.expires_at_unix_s - SkippingClock().wall() + 1.0
            assert not session.expired
            assert not session.ended.done()
