"""Rule: a session says hello, hears and tells until its call breaks, and dials again until it is closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import grpc
import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.commands import RouterCommand, Welcome
from protos.contract.events import Leaving, LeavingKind
from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Delta
from protos.contract.worker import Hardware, Load, Profile
from tests.support.socketless import SocketlessRouter, status
from tests.support.until import until_changed
from workers.session.session import Introduction, Session, SessionLimits

QUICK = SessionLimits(backoff_first_s=0.001, backoff_last_s=0.002)
HERE = Introduction(
    worker_id=WorkerId("w-1"),
    incarnation="i",
    profile=Profile(node="n", hardware=Hardware(kind="cpu", name="x"), engine="echo"),
    models=(),
)


class Owner:
    """The worker as its sessions see it: what they said, in order."""

    def __init__(self) -> None:
        self.load = Load()
        self.said: list[str] = []
        self.commands: list[RouterCommand] = []
        self.changed = asyncio.Event()

    def _say(self, line: str) -> None:
        self.said.append(line)
        self.changed.set()

    def introduce(self) -> Introduction:
        return HERE

    def load_figures(self) -> Load:
        return self.load

    def on_welcome(self, session: Session, welcome: Welcome) -> None:
        self._say(f"welcome of {welcome.replica_id}")
        assert session.is_open

    def on_command(self, session: Session, command: RouterCommand) -> None:
        self.commands.append(command)
        self._say(type(command).__name__)

    def on_broken(self, session: Session, reason: str) -> None:
        self._say(f"broken: {reason}")

    def on_rejected(self, session: Session, reason: str) -> None:
        self._say(f"rejected: {reason}")

    async def until(self, line: str) -> None:
        await until_changed(self.changed, lambda: any(one.startswith(line) for one in self.said))


class Running:
    """A session at work."""

    def __init__(self, limits: SessionLimits) -> None:
        self.router, self.owner = SocketlessRouter(), Owner()
        self.session = Session("router:1", self.owner, dial=self.router.dial, limits=limits, jitter=lambda: 0.0)
        self.task = asyncio.create_task(self.session.run())


@contextlib.asynccontextmanager
async def running(limits: SessionLimits = QUICK) -> AsyncIterator[Running]:
    """Afterwards the session has ended, and so has its writer."""
    before = asyncio.all_tasks()
    one = Running(limits)
    try:
        yield one
    finally:
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)
        assert not one.session.is_open
        assert asyncio.all_tasks() - before == set()


def delta(text: str) -> Delta:
    return Delta(request_id=RequestId("r"), attempt=1, position=0, text=text, token_count=1, text_tokens=1)


async def test_hello_says_who_the_worker_is_and_a_welcome_opens_the_session() -> None:
    """Nothing that is put before it opened is kept."""
    async with running() as one:
        one.session.put_delta(delta("lost"))
        call = await one.router.session()
        await one.owner.until("welcome of replica-0")
        assert (call.hello.worker_id, call.hello.profile.node) == ("w-1", "n")
        assert one.session.replica_id == "replica-0"
        one.session.put_delta(delta("heard"))
        await call.until(lambda end: end.text("r"))
        assert call.text("r") == "heard"


async def test_commands_reach_the_owner_and_the_load_tells_which_were_seen() -> None:
    """A ping is the session's own affair."""
    async with running() as one:
        call = await one.router.session()
        call.send(ping=pb.Ping(sequence=5))
        call.send(abort=pb.Abort(request_id="r", attempt=1))
        await one.owner.until("Abort")
        await call.until(lambda end: end.of("pong") and end.loads() and end.loads()[-1].last_command == 3)
        assert [one.sequence for one in call.of("pong")] == [5]
        assert one.owner.said == ["welcome of replica-0", "Abort"]


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (status(grpc.StatusCode.UNAVAILABLE, "reset by peer"), "broken: the session broke"),
        (grpc.aio.EOF, "broken: the session broke"),
    ],
)
async def test_a_call_that_breaks_is_told_and_dialled_again(breaks: object, reason: str) -> None:
    """Whether it fails or ends."""
    async with running() as one:
        call = await one.router.session()
        await one.owner.until("welcome")
        if isinstance(breaks, BaseException):
            call.fail(breaks)
        else:
            call.hang_up()
        await one.router.session(2)
        assert reason in one.owner.said


async def test_a_dismissal_ends_the_call_with_the_routers_reason() -> None:
    """The owner hears the command before the break."""
    async with running() as one:
        call = await one.router.session()
        call.send(dismiss=pb.Dismiss(reason="another replica has you"))
        await one.owner.until("broken")
        assert one.owner.said[1:3] == ["Dismiss", "broken: dismissed by the router: another replica has you"]


async def test_a_worker_that_is_not_known_hears_so_at_every_dial() -> None:
    """It was never open, so nothing broke."""
    async with running() as one:
        one.router.refusal = status(grpc.StatusCode.UNAUTHENTICATED, "not known here")
        await one.router.session(2)
        await one.owner.until("rejected: not known here")
        assert not [line for line in one.owner.said if line.startswith("broken")]


async def test_a_router_that_is_not_there_or_says_nothing_is_dialled_again() -> None:
    """Until it is, and does."""
    async with running(SessionLimits(backoff_first_s=0.001, backoff_last_s=0.002, dial_timeout_s=0.001)) as one:
        one.router.unreachable = ConnectionRefusedError("refused")
        await one.router.dialled(3)
        one.router.unreachable = None
        one.router.welcomes = False
        await one.router.session(2)
        one.router.welcomes = True
        await one.owner.until("welcome")


async def test_a_router_that_does_not_read_loses_its_session_at_the_bound() -> None:
    """The engine never waits for it."""
    async with running(SessionLimits(backoff_first_s=0.001, backoff_last_s=0.002, max_items=2)) as one:
        await one.router.session()
        await one.owner.until("welcome")
        one.router.reading.clear()
        for number in range(8):
            one.session.put_event(Leaving(kind=LeavingKind.AWAKE, reason=str(number)))
        await one.owner.until("broken: 2 messages wait for a router that does not read")
        one.router.reading.set()
        await one.router.session(2)


async def test_a_message_that_nobody_takes_ends_the_session() -> None:
    """After the stall's deadline."""
    async with running(SessionLimits(backoff_first_s=0.001, backoff_last_s=0.002, write_stall_s=0.001)) as one:
        await one.router.session()
        await one.owner.until("welcome")
        one.router.reading.clear()
        one.session.put_delta(delta("x"))
        await one.owner.until("broken: the router took no message for 0.001 s")
        one.router.reading.set()


async def test_closing_sends_what_waits_and_says_that_nothing_more_comes() -> None:
    """Then the session is not dialled again."""
    async with running() as one:
        call = await one.router.session()
        await one.owner.until("welcome")
        one.session.put_event(Leaving(kind=LeavingKind.BYE, reason="enough"))
        await one.session.close(flush_s=20.0)
        await one.task
        assert [leaving.reason for leaving in call.of("leaving")] == ["enough"]
        assert call.call.finished
        assert one.router.dials == 1


async def test_closing_does_not_wait_for_a_router_that_does_not_read() -> None:
    """What it did not take is lost with the call."""
    async with running() as one:
        call = await one.router.session()
        await one.owner.until("welcome")
        one.router.reading.clear()
        one.session.put_event(Leaving(kind=LeavingKind.BYE, reason="enough"))
        await one.session.close(flush_s=0.0)
        await one.task
        assert call.call.cancelled
        assert call.of("leaving") == []
        one.router.reading.set()


@pytest.mark.parametrize("where", ["on_command", "on_welcome", "on_broken", "introduce"])
async def test_whatever_is_raised_costs_one_call(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect on this side, met once: the next call is dialled and goes well."""
    async with running() as one:
        usual = getattr(one.owner, where)
        met: list[object] = []

        def defective(*arguments: object) -> object:
            if not met:
                met.append(where)
                raise TypeError("a list where text belongs")
            return usual(*arguments)

        monkeypatch.setattr(one.owner, where, defective)
        if where == "introduce":  # the first call never says hello
            await one.router.session()
            assert met
            return
        call = await one.router.session()
        if where in ("on_command", "on_broken"):
            await one.owner.until("welcome")
            call.send(abort=pb.Abort(request_id="r", attempt=1))
            if where == "on_broken":
                call.hang_up()
        await one.router.session(2)
        await until_changed(one.owner.changed, lambda: bool(met) and one.session.is_open)
        assert not one.task.done()


async def test_what_cannot_be_written_ends_the_call_at_once() -> None:
    """The router need not say anything first: before, the reader waited for it."""
    async with running() as one:
        await one.router.session()
        await one.owner.until("welcome")
        odd = Delta(request_id=RequestId("r"), attempt=cast("int", "one"), position=0, text="x", token_count=1)
        one.session.put_delta(odd)
        await one.router.session(2)
        assert any(line.startswith("broken: writing failed") for line in one.owner.said)
