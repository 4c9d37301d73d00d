"""Where a draft worker listens: mutual TLS beyond loopback, plain text on it alone."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from protos.allsorts.v1 import draft_pb2_grpc as pb_grpc
from protos.contract.addresses import is_loopback, join_host_port
from workers.drafting.link import DraftTls
from workers.drafting.service import DraftService
from workers.errors import WorkerError

log = structlog.get_logger(__name__)

STOP_GRACE_S = 0.5

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.max_send_message_length", 2**20),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.keepalive_time_ms", 4000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)


class CannotListen(WorkerError):
    """The address is taken, not of this machine, or not for plain text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftListener:
    """A server that runs. ``address``: what targets dial."""

    address: str
    server: Any
    service: DraftService

    async def stop(self) -> None:
        """End all calls."""
        await self.server.stop(STOP_GRACE_S)


async def listen(service: DraftService, where: str, tls: DraftTls | None, *, seen_from: str) -> DraftListener:
    """Listen at ``where`` (host:port; port 0: any). ``seen_from``: host:port of a router, for the address that other
    machines have of this one when ``where`` is all of them. Raises CannotListen, OSError.
    """
    host, _, port = where.rpartition(":")
    if tls is None and not is_loopback(host):
        raise CannotListen(
            f"a draft on {where} needs mutual TLS: join with `allsorts join HOST:PORT --token … --role draft`, or "
            "listen on 127.0.0.1"
        )
    server = grpc.aio.server(options=OPTIONS)
    pb_grpc.add_DraftServicer_to_server(service, server)
    try:
        bound = server.add_insecure_port(where) if tls is None else server.add_secure_port(where, _credentials(tls))
    except RuntimeError as error:
        raise CannotListen(f"a draft cannot listen on {where}: is the port taken? ({error})") from None
    await server.start()
    shown = host.strip("[]") if is_shown(host) or not _is_address(host) else own_address(seen_from)
    address = join_host_port(shown, int(bound) or int(port))
    log.info("draft.listening", address=address, tls=tls is not None)
    return DraftListener(address=address, server=server, service=service)


def _credentials(tls: DraftTls) -> Any:
    """They follow the files: a renewed certificate counts from the next handshake on."""
    handed: list[bytes] = [b""]

    def fetch() -> Any:
        chain = tls.certificate.read_bytes()
        if chain == handed[0]:
            return None
        handed[0] = chain
        return grpc.ssl_server_certificate_configuration([(tls.key.read_bytes(), chain)], tls.authority.read_bytes())

    return grpc.dynamic_ssl_server_credentials(fetch(), fetch, require_client_authentication=True)


def is_shown(host: str) -> bool:
    """Whether an address is one that others can dial: none of those that stand for all.

    >>> is_shown("10.0.0.7"), is_shown("0.0.0.0"), is_shown("")
    (True, False, False)
    """
    return _is_address(host) and not ipaddress.ip_address(host.strip("[]")).is_unspecified


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def own_address(seen_from: str) -> str:
    """The address of this machine on the way to ``host:port``; nothing is sent."""
    host, _, port = seen_from.rpartition(":")
    for family, *_, target in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(target)
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return "127.0.0.1"
