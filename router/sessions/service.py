"""The Fleet service: every worker's session ends up here; enrolment is delegated."""

import asyncio
import itertools
import math
import time
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1 import fleet_pb2_grpc as pb_grpc
from protos.contract.codec.commands import encode_command
from protos.contract.codec.events import decode_event
from protos.contract.commands import Dismiss, ReplicaList, Welcome
from protos.contract.events import Hello
from protos.contract.ids import WorkerId
from protos.contract.joining.versions import (
    JOINED_SINCE,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    agreed_version,
    own_version,
)
from protos.contract.validation import OutOfBounds
from protos.contract.worker import Replica
from router.config import FleetConfig
from router.domain.clock import Clock
from router.domain.ids import ReplicaId
from router.domain.worker import WorkerProfile
from router.errors import AllsortsError, NotAllowed, Unavailable, forget_frames
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.fleet.model_rules import ModelRules
from router.sessions.enrolment import enrol, renew
from router.sessions.events import EventHandler, ProtocolViolation, Tell
from router.sessions.peers import certificate_end, peer_of
from router.sessions.reader_share import ReaderShare
from router.sessions.reading.event_reader import EventReader
from router.sessions.reading.parts import parts_of
from router.sessions.session import WorkerSession
from router.sessions.watchdog import (
    MAX_HANG_S,
    Health,
    Liveness,
    forgotten,
    hang_limit_s,
    held_up,
    judge,
    nobody_waits,
)
from router.sessions.writing import LAST_WRITE_S, flush_last_words, let_finish, write
from router.trust.enroller import Enroller
from router.trust.session_authorizer import Admitted, SessionAuthorizer

log = structlog.get_logger()

HELLO_DEADLINE_S = 10.0
HELLO_BYTES = 2**20
"""256 models with all they can say; more is broken or hostile."""

SHORT_HELLO_BYTES = 32 * 1024
"""Up to this size a hello is read on the event loop: some milliseconds."""

FEW_MODELS = 16
LONGEST_TURN_S = 0.5
ENDING_S = 3.0
"""How long a router that stops waits for its sessions."""


class FleetService(pb_grpc.FleetServicer):
    """Serves sessions of one router replica."""

    def __init__(
        self,
        *,
        replica_id: ReplicaId,
        membership: Membership,
        tell: Tell,
        authorizer: SessionAuthorizer,
        enroller: Enroller,
        config: FleetConfig,
        clock: Clock,
    ) -> None:
        self._replica_id = replica_id
        self._membership = membership
        self._tell = tell
        self._authorizer = authorizer
        self._enroller = enroller
        self._config = config
        self._clock = clock
        self._ids = itertools.count(1)
        self._sessions: set[WorkerSession] = set()
        self._closing = ""
        self._building = asyncio.Semaphore(1)
        self._reading_hello = asyncio.Semaphore(1)
        self._joining = asyncio.Semaphore(1)
        self.replicas: tuple[Replica, ...] = ()

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802 - gRPC's name
        """Delegated."""
        return await enrol(self._enroller, request, context)

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: N802 - gRPC's name
        """Delegated; whoever may renew may also keep the session that stands on the old certificate."""
        reply = await renew(self._enroller, request, context)
        session = self._membership.session_of(WorkerId(peer_of(context).worker_id or ""))
        if session is not None:
            session.valid_until = self._valid_until(reply.expires_at_unix_s)
        return reply

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: ARG002, N802
        """One worker's lease, for as long as it lasts."""
        if self._closing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self._closing)
        try:
            events = EventReader(context, self._building)
            admitted, hello = await self._let_in(events, context)
            await self._serve(hello, admitted, events, context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello within {HELLO_DEADLINE_S:.0f} s")
        except NotAllowed as error:
            forget_frames(error)
            log.warning("session.refused", reason=error.message, peer=context.peer())
            await context.write(encode_command(Dismiss(reason=error.message, permanent=True), 1))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.message)
        except (ProtocolViolation, OutOfBounds, DecodeError, AllsortsError) as error:
            forget_frames(error)
            log.warning("session.violation", reason=str(error), peer=context.peer())
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:500])

    async def end_all(self, reason: str) -> None:
        """End every session and let none begin: the router stops. A session that hangs is left behind."""
        self._closing = reason
        deadline = self._clock.now() + ENDING_S
        while self._sessions and self._clock.now() < deadline:  # each takes itself out
            for session in tuple(self._sessions):
                session.end(reason)
            await asyncio.sleep(0.01)

    def tell_replicas(self, replicas: tuple[Replica, ...]) -> None:
        """The list changed: workers dial who is new, and leave who is gone."""
        self.replicas = replicas
        for session in self._sessions:
            session.send(ReplicaList(replicas=replicas))

    def end_worker(self, worker_id: WorkerId, reason: str, *, permanent: bool) -> None:
        """End a worker's session; ``permanent`` tells it not to come back."""
        session = self._membership.session_of(worker_id)
        if session is not None:
            session.send(Dismiss(reason=reason, permanent=permanent))
            session.end(reason)

    # -- one session -----------------------------------------------------------------------------------

    async def _let_in(self, events: EventReader, context: Any) -> tuple[Admitted, Hello]:
        """The gate first, and by the certificate alone where there is one: a worker that may not come in is not
        listened to. Raises NotAllowed, ProtocolViolation, OutOfBounds, TimeoutError.
        """
        certified = peer_of(context).worker_id
        if certified is not None:
            await self._authorizer.admit("", certified)
        async with asyncio.timeout(HELLO_DEADLINE_S):
            first = await events.first(HELLO_BYTES)
        if first is None or first.WhichOneof("event") != "hello":
            raise ProtocolViolation("the first event must be hello")
        admitted = await self._authorizer.admit(first.hello.worker_id, certified)
        hello = await self._read_hello(first)
        if certified is None:
            self._refuse_second(admitted, hello)
        return admitted, hello

    def _refuse_second(self, admitted: Admitted, hello: Hello) -> None:
        """Where no certificate says who is who, a name that speaks belongs to the process that has it. Raises
        Unavailable: it may come again, once the other has fallen silent.
        """
        member = self._membership.member(admitted.worker_id)
        session = self._membership.session_of(admitted.worker_id)
        if member is None or session is None or member.profile.incarnation == hello.incarnation:
            return
        if self._clock.now() - session.last_heard < self._config.silence_s:
            raise Unavailable(
                f"another process already serves as {admitted.worker_id}; stop it, or give this one its own --state-dir"
            )

    async def _read_hello(self, first: pb.WorkerEvent) -> Hello:
        """Beside the event loop where it is long, and few at a time: the checks look at every field."""
        if first.ByteSize() <= SHORT_HELLO_BYTES:
            hello = decode_event(first, self._clock.now())
        else:
            async with self._reading_hello:
                began = self._clock.now()
                hello = await asyncio.to_thread(decode_event, first, began)
                await asyncio.sleep(min(self._clock.now() - began, LONGEST_TURN_S))
        assert isinstance(hello, Hello)
        return hello

    async def _serve(self, hello: Hello, admitted: Admitted, events: EventReader, context: Any) -> None:
        version = agreed_version(hello.protocol_version, hello.oldest_protocol_version)
        if version is None:
            raise ProtocolViolation(
                f"the worker speaks protocol {hello.oldest_protocol_version}-{hello.protocol_version}, this router "
                f"{OLDEST_PROTOCOL_VERSION}-{PROTOCOL_VERSION}; update the older one"
            )
        session = WorkerSession(session_id=next(self._ids), worker_id=admitted.worker_id, clock=self._clock)
        session.valid_until = self._valid_until(certificate_end(context))
        session.joins = version >= JOINED_SINCE
        profile = _profile(hello, admitted)
        member = await self._join(session, profile, hello, admitted)
        if hello.load is not None:
            session.note_load(hello.load)
            self._membership.set_load(member, hello.load)
        session.send(
            Welcome(
                replica_id=self._replica_id,
                protocol_version=version,
                node=profile.node,
                replicas=self.replicas,
                load_interval_s=self._config.load_interval_s,
                version=own_version(),
            )
        )
        await self._run(session, member, events, context)

    async def _join(self, session: WorkerSession, profile: WorkerProfile, hello: Hello, admitted: Admitted) -> Member:
        """Into the fleet. With many models one at a time, each after three times what the last one took: whoever comes
        again and again with all that a hello may hold has a quarter of the router's time.
        """
        if len(hello.models) <= FEW_MODELS:
            return self._enter(session, profile, hello, admitted)
        async with self._joining:
            began = self._clock.now()
            member = self._enter(session, profile, hello, admitted)
            try:
                await asyncio.sleep(min(3.0 * (self._clock.now() - began), LONGEST_TURN_S))
            except BaseException:  # the call was cancelled: nobody else would end the session
                self._gone(session)
                raise
        return member

    def _enter(self, session: WorkerSession, profile: WorkerProfile, hello: Hello, admitted: Admitted) -> Member:
        return self._membership.join(
            session, profile, hello.models, cordoned=admitted.cordoned, rules=_rules(admitted), files=hello.files
        )

    async def _run(self, session: WorkerSession, member: Member, events: EventReader, context: Any) -> None:
        handler = EventHandler(
            session=session, member=member, membership=self._membership, tell=self._tell, clock=self._clock
        )
        self._sessions.add(session)
        writing = asyncio.Lock()
        writer = asyncio.create_task(write(session, context, writing))
        watcher = asyncio.create_task(self._watch(session, member))
        reader = asyncio.create_task(self._read(handler, events))
        try:
            ends: set[asyncio.Future[Any]] = {reader, writer, watcher, session.ended}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if session.ended.done():
                await flush_last_words(writer)
            if reader.done():
                reader.result()  # raises what went wrong, if anything did
        finally:
            # First what the fleet must know: what follows may take its time, or be cancelled with the call.
            self._gone(session)
            try:
                await let_finish(writing)
            finally:
                for task in (reader, writer, watcher):
                    task.cancel()
                    task.add_done_callback(_hear_out)
                await asyncio.wait({reader, writer, watcher}, timeout=LAST_WRITE_S)
                self._sessions.discard(session)

    def _gone(self, session: WorkerSession) -> None:
        session.end("the connection to the worker broke")
        if self._membership.leave(session, session.ended.result()):
            for worker_id in self._membership.forget_gone():
                log.info("worker.forgotten", worker=worker_id)

    def _valid_until(self, certificate_end: float | None) -> float:
        """On the monotonic clock: a wall clock that jumps ends no session."""
        return math.inf if certificate_end is None else self._clock.now() + certificate_end - self._clock.wall()

    async def _read(self, handler: EventHandler, events: EventReader) -> None:
        share = ReaderShare()
        while (event := await events.next()) is not None:
            for part in parts_of(event):
                began, worked = self._clock.now(), time.thread_time()
                handler.handle(part)
                pause_s = share.handled(began, self._clock.now(), time.thread_time() - worked)
                if pause_s > 0.0:
                    await asyncio.sleep(pause_s)

    async def _watch(self, session: WorkerSession, member: Member) -> None:
        while True:
            looked_at = self._clock.now()
            await asyncio.sleep(self._config.ping_interval_s)
            if held_up(self._clock.now() - looked_at, self._config.ping_interval_s):
                continue
            if session.expired:
                session.end("its certificate has ended; the worker comes back with a fresh one")
                return
            if session.deaf_for() > self._config.deaf_s:
                session.end(f"it answered no ping for {self._config.deaf_s:g} s")
                return
            session.ping()
            liveness = Liveness(
                now=self._clock.now(),
                last_heard=session.last_heard,
                progress_at=session.progress_at,
                open_attempts=session.open_attempts,
                load=member.load,
                longest_step_s=session.longest_step_s,
                unseen=self._membership.unseen(session.worker_id),
            )
            health = judge(liveness, self._config)
            if health is Health.SILENT:
                session.end(f"nothing heard for {liveness.now - liveness.last_heard:.1f} s")
                return
            if health is Health.HANGING and liveness.now >= member.breaker.open_until:
                reason = f"the engine shows no step for {liveness.now - liveness.progress_at:.1f} s"
                self._membership.failed(session.worker_id, reason)
                session.lose_attempts(reason)
            self._lose_forgotten(session, liveness)

    def _lose_forgotten(self, session: WorkerSession, liveness: Liveness) -> None:
        """An answer whose last word never came would wait for ever at a worker that otherwise does well."""
        silent = session.silent_attempts(liveness.now - hang_limit_s(liveness, self._config))[: forgotten(liveness)]
        if nobody_waits(liveness.load):
            silent += session.silent_attempts(liveness.now - MAX_HANG_S)
        for key in silent:
            log.warning("attempt.forgotten", worker=session.worker_id, request_id=key[0], attempt=key[1])
            session.lose(key, "the worker goes on and says nothing of this request")


def _rules(admitted: Admitted) -> ModelRules:
    return ModelRules(allowed=admitted.models, refused=admitted.refused_models, believed=admitted.believed)


def _profile(hello: Hello, admitted: Admitted) -> WorkerProfile:
    """Who the worker is. Labels and node given at enrolment win over those it claims."""
    said = hello.profile
    claimed = said.labels if admitted.own_labels else {}
    return WorkerProfile(
        worker_id=admitted.worker_id,
        incarnation=hello.incarnation,
        node=admitted.node or said.node or admitted.worker_id,
        hardware=said.hardware,
        engine=said.engine,
        engine_version=said.engine_version,
        labels=tuple(sorted({**claimed, **admitted.labels}.items())),
        platform=said.platform,
        version=said.version,
        protocol_version=hello.protocol_version,
        draft_address=said.draft_address if said.drafts else "",
        takes_models=said.takes_models,
        memory_limit_bytes=said.memory_limit_bytes,
    )


def _hear_out(task: "asyncio.Task[None]") -> None:
    """Whatever a task of a session that is over still has to complain about."""
    if not task.cancelled():
        task.exception()
