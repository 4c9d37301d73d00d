"""Channels to router replicas: mutual TLS, or plain text where nothing leaves the machine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import grpc

from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.addresses import is_loopback
from protos.contract.joining.certificates import SERVER_NAME
from workers.errors import WorkerError

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 4000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Each dial stands alone: no shared connection whose own back-off would slow ours.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
"""The router's server must allow pings this frequent: min_ping_interval_without_data_ms at most 2000."""


class InsecureAddress(WorkerError):
    """Plain text was asked for beyond loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSecurity:
    """PEM files of a worker that has enrolled: the fleet's CA, the worker's certificate, its key.

    ``server_name`` overrides the name the router's certificate is checked against (empty: the address).
    Files are read at each connect, so that a renewed certificate counts from the next session on.
    """

    authority: Path
    certificate: Path
    key: Path
    server_name: str = ""


def stays_here(address: str) -> bool:
    """Whether ``host:port`` (or ``unix:PATH``) names this very machine."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0])


def open_channel(address: str, security: ChannelSecurity | None) -> grpc.aio.Channel:
    """A channel to a router replica. Raises InsecureAddress for plain text beyond loopback, OSError for missing PEM."""
    if security is None:
        if not stays_here(address):
            raise InsecureAddress(
                f"{address} is not on this machine and this worker has no certificate: "
                "enrol it with `allsorts join HOST:PORT --token …`"
            )
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=security.authority.read_bytes(),
        private_key=security.key.read_bytes(),
        certificate_chain=security.certificate.read_bytes(),
    )
    options = CHANNEL_OPTIONS
    if security.server_name:
        options = (*options, ("grpc.ssl_target_name_override", security.server_name))
    return grpc.aio.secure_channel(address, credentials, options=options)


def open_enrolment_channel(address: str, authority: Path) -> grpc.aio.Channel:
    """A channel for a machine without a certificate yet: the router proves itself by the pinned CA."""
    credentials = grpc.ssl_channel_credentials(root_certificates=authority.read_bytes())
    return grpc.aio.secure_channel(
        address, credentials, options=(*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
    )


class SessionCall(Protocol):
    """The two directions of one session, message by message (see fleet.proto)."""

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``."""
        ...

    async def write(self, message: Any) -> None:
        """Send one; returns once it is taken."""
        ...

    async def done_writing(self) -> None:
        """Nothing more comes from here."""
        ...

    def cancel(self) -> bool:
        """Give it up."""
        ...


Dial = Callable[[str], AbstractAsyncContextManager[SessionCall]]
"""Opens a session's call to ``host:port``; raises InsecureAddress, OSError, ValueError."""


@asynccontextmanager
async def _open_call(security: ChannelSecurity | None, address: str) -> AsyncIterator[SessionCall]:
    async with open_channel(address, security) as channel:
        yield FleetStub(channel).Session()


def grpc_dial(security: ChannelSecurity | None) -> Dial:
    """Calls over gRPC, each on a channel of its own."""
    return partial(_open_call, security)
