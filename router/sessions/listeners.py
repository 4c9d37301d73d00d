"""The gRPC servers workers dial: plain text on loopback only; elsewhere mutual TLS, and a second door for joiners.

- session listener: Session, Renew, models' files. With TLS, the connection must show a certificate of this pool's CA.
- enrolment listener (TLS only): Enrol, for machines that have no certificate yet. Server TLS; nothing else is served.

Health and reflection are gRPC's standard services, on the session listener.
"""

from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.allsorts.v1 import fleet_pb2_grpc as pb_grpc
from protos.contract.addresses import join_host_port
from protos.contract.worker import Replica
from router.config import GrpcConfig
from router.domain.clock import Clock
from router.errors import ConfigError
from router.fleet.intent_sync import follow_decisions
from router.fleet.membership import Membership
from router.fleet.served_models import keep_models, recall_models
from router.sessions.enrolment import EnrolmentServicer, fleet_handlers
from router.sessions.files import FilesService
from router.sessions.reading.event_bounds import ENROLMENT_BYTES
from router.sessions.service import FleetService
from router.trust.authority import Authority
from router.trust.enroller import Enroller
from router.trust.exposure import advertised_host, uses_tls
from router.trust.security import Security
from router.trust.server_identity import RotatingIdentity

log = structlog.get_logger()

SERVICE = "allsorts.v1.Fleet"

SESSION_MESSAGE_BYTES = 16 * 2**20
"""To a worker: a prompt of the largest body, and what the client has of its answer."""

EVENT_MESSAGE_BYTES = 8 * 2**20
"""From a worker: it cuts its steps at half of that."""

ENROL_MESSAGE_BYTES = ENROLMENT_BYTES
ENROL_CONCURRENT = 64
STOP_GRACE_S = 2.0
LAST_PORT = 65535

_COMMON: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # two routers on one port would share workers at random
    ("grpc.http2.max_ping_strikes", 4),
    ("grpc.max_metadata_size", 16 * 1024),
)

SESSION_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    ("grpc.max_receive_message_length", EVENT_MESSAGE_BYTES),
    ("grpc.max_send_message_length", SESSION_MESSAGE_BYTES),
    # Workers ping every 4 s; a router notices a vanished one by its own pings even sooner (``FleetConfig``).
    ("grpc.keepalive_time_ms", 4000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.max_concurrent_streams", 16),  # per connection; a worker needs one, health and reflection a few
)

ENROL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    ("grpc.max_receive_message_length", ENROL_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_age_ms", 60_000),  # joiners come and go; nobody lingers without a certificate
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Servers that run. ``replica`` is what workers are told; ``enrol_address`` what joiners dial, empty if plain."""

    replica: Replica
    session_port: int
    enrol_port: int
    enrol_address: str
    servers: tuple[Any, ...]
    identity: RotatingIdentity | None = None  # None: plain

    async def stop(self) -> None:
        """Refuse new calls, give running ones a moment, end."""
        for server in self.servers:
            await server.stop(STOP_GRACE_S)


async def listen(
    security: Security,
    service: FleetService,
    *,
    replica_id: str,
    rank: int = 0,
    door: bool | None = None,
    more_ports: int = 0,
    membership: Membership | None = None,
    files: FilesService | None = None,
) -> Listening:
    """Start the gRPC servers, and note in the store where joiners dial. Raises ConfigError.

    With ``membership``, revocations and cordons made elsewhere are followed, and what is served is kept, until
    ``security.close``.
    """
    if membership is not None:
        await recall_models(security.store, membership)
    listening = await start_listeners(
        service,
        security.enroller,
        security.config.grpc,
        authority=security.authority,
        clock=security.clock,
        replica_id=replica_id,
        rank=rank,
        files=files,
        door=door,
        more_ports=more_ports,
    )
    if listening.enrol_address:
        await security.reached_at(listening.enrol_address)
    if membership is not None:
        store = security.store
        security.until_closed(follow_decisions(store, membership, service), keep_models(store, membership))
    return listening


async def start_listeners(
    service: FleetService,
    enroller: Enroller,
    config: GrpcConfig,
    *,
    authority: Authority | None,
    clock: Clock,
    replica_id: str,
    rank: int = 0,
    files: FilesService | None = None,
    door: bool | None = None,
    more_ports: int = 0,
) -> Listening:
    """Start what ``config`` asks for; session port ``config.port + rank`` (0: any free one), or one of ``more_ports``
    behind it while another replica still has that; and the enrolment port, on rank 0 unless ``door`` says otherwise.
    ``authority`` is None for a plain pool.

    Raises ConfigError when a port is taken, or plain text was asked for beyond loopback.
    """
    if authority is None and uses_tls(config):
        raise ConfigError(f"plain text gRPC only on loopback, not on {config.host}: this pool needs its authority")
    host = advertised_host(config)
    identity = None if authority is None else RotatingIdentity(authority, hosts=(config.host, host), clock=clock)
    session = grpc.aio.server(options=SESSION_OPTIONS)
    session.add_generic_rpc_handlers((fleet_handlers(service),))
    if files is not None:
        pb_grpc.add_FilesServicer_to_server(files, session)
    _add_standard_services(session)
    wanted = config.port + rank if config.port else 0
    credentials = None if identity is None else identity.credentials(require_client_certificate=True)
    session_port = _bind(session, config.host, wanted, credentials, more_ports if wanted else 0)
    servers = [session]
    enrol_port = 0
    if identity is not None and (rank == 0 if door is None else door):
        enrolling = grpc.aio.server(options=ENROL_OPTIONS, maximum_concurrent_rpcs=ENROL_CONCURRENT)
        enrolling.add_generic_rpc_handlers((fleet_handlers(EnrolmentServicer(enroller)),))
        credentials = identity.credentials(require_client_certificate=False)
        enrol_port = _bind(enrolling, config.host, config.enrol_port, credentials)
        servers.append(enrolling)
    if identity is not None:
        identity.tell_enrol_port(enrol_port or config.enrol_port)
    for server in servers:
        await server.start()
    address = join_host_port(host, session_port)
    log.info("grpc.listening", host=config.host, session_port=session_port, enrol_port=enrol_port, tls=bool(identity))
    return Listening(
        replica=Replica(replica_id=replica_id, address=address),
        session_port=session_port,
        enrol_port=enrol_port,
        enrol_address=join_host_port(host, enrol_port) if enrol_port else "",
        servers=tuple(servers),
        identity=identity,
    )


def _bind(server: Any, host: str, port: int, credentials: Any, more_ports: int = 0) -> int:
    address = join_host_port(host, port)
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        if more_ports > 0 and port < LAST_PORT:
            return _bind(server, host, port + 1, credentials, more_ports - 1)
        raise ConfigError(
            f"gRPC cannot listen on {address}: is the port taken, is the address of this machine? ({error})"
        ) from None


def _add_standard_services(server: Any) -> None:
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
