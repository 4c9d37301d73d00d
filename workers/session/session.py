"""One session to one router replica: dial, hello, one reader, one writer, and dial again when it breaks."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import grpc
import structlog

from protos.contract.codec.commands import decode_command
from protos.contract.codec.events import encode_event, encode_step
from protos.contract.commands import Dismiss, Ping, RouterCommand, Welcome
from protos.contract.events import DraftReport, FetchProgress, FilesHeld, Hello, Pong, WorkerEvent
from protos.contract.ids import WorkerId
from protos.contract.joining.versions import JOINED_SINCE, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from protos.contract.stream import Accepted, Delta, Refusal
from protos.contract.worker import Load, ModelInstance, Profile
from workers.session.channel import Dial, InsecureAddress, SessionCall
from workers.session.load_pacer import LoadPacer
from workers.session.outbox import Batch, Outbox, OutboxFull

log = structlog.get_logger(__name__)

SINCE: Mapping[type, int] = {FilesHeld: 2, FetchProgress: 2, DraftReport: 2}
"""The version of the protocol from which on a router knows an event; to an older one it is not sent."""

MOST_TOGETHER = 64
"""Events in one message."""

NOT_KNOWN = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
"""Status codes with which a router says that it does not know this worker (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Times and bounds of a session."""

    dial_timeout_s: float = 10.0  # until the router's welcome
    backoff_first_s: float = 0.2
    backoff_last_s: float = 5.0
    write_stall_s: float = 30.0  # one message that the router does not take for so long ends the session
    load_interval_s: float = 0.05  # at most 20 loads a second; a welcome may ask for fewer
    heartbeat_s: float = 1.0  # an unchanged load is repeated after so long
    max_items: int = 8192
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What hello says, read at the moment of dialling."""

    worker_id: WorkerId
    incarnation: str
    profile: Profile
    models: tuple[ModelInstance, ...]
    files: tuple[ModelInstance, ...] = ()  # that could be loaded


class SessionOwner(Protocol):
    """The worker, as its sessions see it."""

    def introduce(self) -> Introduction:
        """Facts for hello."""
        ...

    def load_figures(self) -> Load:
        """The engine's load now."""
        ...

    def on_welcome(self, session: "Session", welcome: Welcome) -> None:
        """A session is open."""
        ...

    def on_command(self, session: "Session", command: RouterCommand) -> None:
        """A command arrived; must not block."""
        ...

    def on_broken(self, session: "Session", reason: str) -> None:
        """A session that was open is gone; what it carried is lost."""
        ...

    def on_rejected(self, session: "Session", reason: str) -> None:
        """The router does not know this worker."""
        ...


class Session:
    """The lasting relation to one router replica. ``run`` keeps it alive until it is closed."""

    def __init__(
        self,
        address: str,
        owner: SessionOwner,
        *,
        dial: Dial,
        limits: SessionLimits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.address = address
        self.replica_id = ""  # known once welcomed
        self._version = OLDEST_PROTOCOL_VERSION  # that both speak, until the welcome says better
        self._owner = owner
        self._dial = dial
        self._limits = limits or SessionLimits()
        self._jitter = jitter
        self._outbox: Outbox | None = None  # there is one while a call is open
        self._call: SessionCall | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()  # set while no call is open
        self._idle.set()
        self._load = LoadPacer(
            owner.load_figures, interval_s=self._limits.load_interval_s, heartbeat_s=self._limits.heartbeat_s
        )
        self._welcomed = False
        self._joins = False  # the router reads steps in columns, and events that others follow
        self._writing = False
        self._leaving = False
        self._drop_reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the router has welcomed this session and it has not broken since."""
        return self._welcomed and self._outbox is not None

    @property
    def has_said_all(self) -> bool:
        """Whether nothing waits for the router, nor is being written; so it is too while the session is not open."""
        return self._outbox is None or (not len(self._outbox) and not self._writing)

    # ------------------------------------------------------------ what the worker says

    def put_event(self, event: WorkerEvent) -> None:
        """Queue an event; nothing happens when the session is not open."""
        if self._version >= SINCE.get(type(event), 0):
            self._put(lambda outbox: outbox.put_event(event))

    def put_delta(self, delta: Delta) -> None:
        """Queue a delta; nothing happens when the session is not open."""
        self._put(lambda outbox: outbox.put_delta(delta))

    def _put(self, action: Callable[[Outbox], None]) -> None:
        if self._outbox is None:
            return
        try:
            action(self._outbox)
        except OutboxFull as full:
            self.drop(str(full))
        self._wake.set()

    def touch(self) -> None:
        """The load may have changed."""
        self._wake.set()

    def drop(self, reason: str) -> None:
        """Give the current call up; ``run`` dials again."""
        if self._call is not None:
            self._drop_reason = self._drop_reason or reason
            self._outbox = None
            self._call.cancel()

    async def close(self, flush_s: float = 2.0) -> None:
        """Send what waits (for at most ``flush_s``), then end for good."""
        self._leaving = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(flush_s):
                await self._idle.wait()
        self.drop("closed")

    # ------------------------------------------------------------ the life of the session

    async def run(self) -> None:
        """Dial, serve, dial again with jittered exponential back-off, until ``close`` or cancellation.

        Whatever ends a call costs that call alone: a loop that nobody starts again would leave a process that lives and
        a worker that is gone.
        """
        delay_s = self._limits.backoff_first_s
        while True:
            self._welcomed = self._joins = False
            self._drop_reason = ""
            log.debug("session.started", router=self.address)
            try:
                reason = await self._serve_once()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                log.error("session.died", router=self.address, error=reason, exc_info=error)
            if self._leaving:
                log.info("session.complete", router=self.address)
                return
            log.warning("session.failed", router=self.address, reason=reason, retry_in_s=round(delay_s, 2))
            if self._welcomed:
                delay_s = self._limits.backoff_first_s
            await asyncio.sleep(delay_s * (0.5 + 0.5 * self._jitter()))
            delay_s = min(self._limits.backoff_last_s, delay_s * 2)

    async def _serve_once(self) -> str:
        """One call from hello to its end; says why it ended."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                call = await stack.enter_async_context(self._dial(self.address))
            except (InsecureAddress, OSError, ValueError) as error:
                return str(error)
            return await self._serve(call)

    async def _serve(self, call: SessionCall) -> str:
        self._begin(call)
        writer = asyncio.create_task(self._write_all(call), name=f"writer to {self.address}")
        try:
            return await self._read_all(call, writer)
        except grpc.aio.AioRpcError as error:
            if error.code() in NOT_KNOWN:
                self._owner.on_rejected(self, error.details() or error.code().name)
            return self._drop_reason or f"{error.code().name}: {error.details()}"
        except TimeoutError:
            return f"no welcome within {self._limits.dial_timeout_s:g} s"
        except asyncio.CancelledError:
            # grpc.aio cancels the reader when the call is cancelled from this side: that is a drop.
            if self._drop_reason and not _cancelling():
                return self._drop_reason
            raise
        finally:
            await self._end(call, writer)

    def _begin(self, call: SessionCall) -> None:
        self._call = call
        self._idle.clear()
        self._outbox = Outbox(max_items=self._limits.max_items, max_bytes=self._limits.max_bytes)
        self._load.begin()

    async def _end(self, call: SessionCall, writer: asyncio.Task[None]) -> None:
        self._outbox = None
        try:
            if self._welcomed:
                self._owner.on_broken(self, self._drop_reason or "the session broke")
        finally:
            call.cancel()
            writer.cancel()
        try:
            # Awaited so, because to suppress the writer's cancellation would lose one of this very task.
            (ended,) = await asyncio.gather(writer, return_exceptions=True)
        finally:
            self._call = None
            self._idle.set()
        if isinstance(ended, Exception) and not isinstance(ended, grpc.aio.AioRpcError | asyncio.InvalidStateError):
            log.error("session.writer_failed", router=self.address, error=f"{type(ended).__name__}: {ended}")

    # ------------------------------------------------------------ reader

    async def _read_all(self, call: SessionCall, writer: asyncio.Task[None]) -> str:
        async with asyncio.timeout(self._limits.dial_timeout_s):
            message = await call.read()
        while message is not grpc.aio.EOF:
            for one in (message, *message.following):
                self._load.saw(one.sequence)
                if not self._receive(decode_command(one)):
                    return self._drop_reason
            if writer.done() and not writer.cancelled() and writer.exception() is not None:
                return f"writing failed: {writer.exception()}"
            message = await call.read()
        return self._drop_reason or "the router ended the session"

    def _receive(self, command: RouterCommand) -> bool:
        """Act on one command; False ends the call."""
        match command:
            case Ping():
                self.put_event(Pong(sequence=command.sequence))
            case Welcome():
                self.replica_id = command.replica_id
                self._version = command.protocol_version
                self._load.ask_for(command.load_interval_s)
                self._welcomed = True
                self._joins = command.protocol_version >= JOINED_SINCE
                log.info("session.opened", router=self.address, replica=command.replica_id, node=command.node)
                self._owner.on_welcome(self, command)
            case Dismiss():
                self._drop_reason = f"dismissed by the router: {command.reason}"
                self._owner.on_command(self, command)
                return False
            case _:
                self._owner.on_command(self, command)
        self._wake.set()  # last_command moved
        return True

    # ------------------------------------------------------------ writer

    async def _write_all(self, call: SessionCall) -> None:
        """The only task that writes: hello, then whatever waits, with the load when it is due."""
        try:
            await self._write(call, encode_event(self._hello()))
            while (outbox := self._outbox) is not None:
                self._wake.clear()
                item = outbox.take()
                if isinstance(item, Batch):
                    await self._write(call, encode_step(item.deltas, self._due_load(), columns=self._joins))
                elif item is not None:
                    if isinstance(item, Refusal):
                        item = replace(item, load=self._load.report())
                    await self._write(call, encode_event(item, self._accepted_with(item, outbox)))
                elif (load := self._due_load()) is not None:
                    await self._write(call, encode_step((), load))
                elif self._leaving:
                    await call.done_writing()
                    self._outbox = None
                else:
                    await self._sleep()
        except TimeoutError:
            self.drop(f"the router took no message for {self._limits.write_stall_s:g} s")
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise  # the reader hears why
        except Exception as error:
            self.drop(f"writing failed: {type(error).__name__}: {error}")  # the reader would wait for ever
            raise

    def _accepted_with(self, item: WorkerEvent, outbox: Outbox) -> list[WorkerEvent]:
        """Acceptances come in crowds, as requests do: those that wait behind one go out with it."""
        if not self._joins or not isinstance(item, Accepted):
            return []
        return list(islice(outbox.take_all(Accepted), MOST_TOGETHER))

    async def _write(self, call: SessionCall, message: object) -> None:
        self._writing = True
        try:
            async with asyncio.timeout(self._limits.write_stall_s):
                await call.write(message)
        finally:
            self._writing = False

    def _hello(self) -> Hello:
        who = self._owner.introduce()
        return Hello(
            protocol_version=PROTOCOL_VERSION,
            oldest_protocol_version=OLDEST_PROTOCOL_VERSION,
            worker_id=who.worker_id,
            incarnation=who.incarnation,
            profile=who.profile,
            models=who.models,
            files=who.files,
            load=self._load.report(),
        )

    def _due_load(self) -> Load | None:
        return self._load.due() if self._welcomed else None

    async def _sleep(self) -> None:
        """Until something waits, or the next load is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._load.remaining_s() if self._welcomed else self._limits.heartbeat_s):
                await self._wake.wait()


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
