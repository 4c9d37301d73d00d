"""A target's call to its draft worker, for as long as it is assigned: dialled again whenever it breaks.

It has threads of its own instead of an event loop: the one who asks is the thread that steps a model, in whatever
process that runs.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import grpc
import structlog

from protos.allsorts.v1 import draft_pb2 as pb
from protos.allsorts.v1.draft_pb2_grpc import DraftStub
from protos.contract.addresses import is_loopback
from protos.contract.codec.drafts import decode_proposals, encode_contexts
from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.joining.certificates import worker_server_name
from workers.drafting.link import DraftLink

log = structlog.get_logger(__name__)

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", 2**20),
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 4000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)

WORKER_ID_KEY = "allsorts-worker-id"
"""Metadata of a call in plain text, where no certificate says who asks."""

LET_IN_KEY = "allsorts-let-in"
"""Metadata with which a draft says at once that it listens."""

MAX_WAITING = 256
"""Messages that may wait for a draft that does not read: then it is given up."""

FIRST_REDIAL_S = 0.2
LAST_REDIAL_S = 10.0


class Heard(Protocol):
    """Who listens to a line. Called from the line's threads."""

    def opened(self) -> None:
        """A call stands; the draft knows nothing of any sequence."""
        ...

    def arrived(self, proposals: Sequence[DraftProposal]) -> None:
        """Proposals came."""
        ...

    def broken(self, reason: str) -> None:
        """The call is gone, or never stood."""
        ...


class Line(Protocol):
    """Takes contexts to a draft."""

    def send(self, contexts: Sequence[DraftContext]) -> None:
        """Never waits; what cannot be sent is lost with the call."""
        ...

    def close(self) -> None:
        """End it. Idempotent."""
        ...


Dial = Callable[[DraftLink, Heard], Line]


class GrpcLine:
    """Implements ``Line``."""

    def __init__(self, link: DraftLink, heard: Heard) -> None:
        self._link = link
        self._heard = heard
        self._closed = threading.Event()
        self._waiting: queue.Queue[pb.DraftContexts | None] | None = None  # of the call that stands
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name=f"draft {link.address}", daemon=True)
        self._thread.start()

    def send(self, contexts: Sequence[DraftContext]) -> None:
        """See ``Line``."""
        waiting, call = self._waiting, self._call
        if waiting is None or not contexts:
            return
        try:
            waiting.put_nowait(encode_contexts(contexts))
        except queue.Full:
            if call is not None:
                call.cancel()

    def close(self) -> None:
        """See ``Line``."""
        self._closed.set()
        call = self._call
        if call is not None:
            call.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        delay_s = FIRST_REDIAL_S
        while not self._closed.is_set():
            reason, stood = self._serve_once()
            if self._closed.is_set():
                return
            log.info("draft.line_broken", address=self._link.address, reason=reason)
            self._heard.broken(reason)
            delay_s = FIRST_REDIAL_S if stood else min(LAST_REDIAL_S, 2.0 * delay_s)
            self._closed.wait(delay_s)

    def _serve_once(self) -> tuple[str, bool]:
        """One call from its beginning to its end; why it ended, and whether the draft ever spoke."""
        stood = False
        try:
            with _open_channel(self._link) as channel:
                waiting: queue.Queue[pb.DraftContexts | None] = queue.Queue(MAX_WAITING)
                metadata = ((WORKER_ID_KEY, self._link.own_worker_id),)
                call = DraftStub(channel).Propose(_each(waiting), metadata=metadata, wait_for_ready=False)
                self._call = call
                if self._closed.is_set():
                    call.cancel()
                try:
                    if LET_IN_KEY in dict(call.initial_metadata()):
                        stood = True
                        self._waiting = waiting
                        self._heard.opened()
                    for message in call:
                        self._heard.arrived(decode_proposals(message))
                    reason = "the draft ended the call"
                except grpc.RpcError as error:
                    reason = _reason(self._link.address, error)
                finally:
                    self._waiting = self._call = None
                    call.cancel()
                    _drain(waiting)
        except (OSError, ValueError) as error:
            reason = str(error)
        return reason, stood


def _each(waiting: "queue.Queue[pb.DraftContexts | None]") -> Iterator[pb.DraftContexts]:
    while (message := waiting.get()) is not None:
        yield message


def _drain(waiting: "queue.Queue[pb.DraftContexts | None]") -> None:
    """The reader of a call that is over finds its end, however much still waits."""
    try:
        while waiting.get_nowait() is not None:
            pass
    except queue.Empty:
        pass
    waiting.put(None)


def _open_channel(link: DraftLink) -> grpc.Channel:
    """Raises ValueError for plain text beyond this machine, OSError for missing PEM files."""
    if link.tls is None:
        if not is_loopback(link.address.rpartition(":")[0]):
            raise ValueError(f"{link.address} is not on this machine and this worker has no certificate")
        return grpc.insecure_channel(link.address, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=link.tls.authority.read_bytes(),
        private_key=link.tls.key.read_bytes(),
        certificate_chain=link.tls.certificate.read_bytes(),
    )
    name = worker_server_name(link.draft_worker_id)
    return grpc.secure_channel(
        link.address, credentials, options=(*OPTIONS, ("grpc.ssl_target_name_override", name))
    )  # fmt: skip


def _reason(address: str, error: grpc.RpcError) -> str:
    """One line for people."""
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"the draft at {address} is not reached: {details}"
    return f"the draft at {address}: {details or code.name}"
