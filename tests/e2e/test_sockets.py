"""Which sockets a pool opens, and where: read from the system for every process the command started."""

import ipaddress
import socket

import psutil
import pytest

from tests.support.pool import Pool
from tests.support.processes import family_of


def family(pool: Pool) -> list[psutil.Process]:
    """The command and all that came from it, Ray's processes too: those that carry the pool's state or ancestry."""
    return family_of(pool.process_id)


def listening(processes: list[psutil.Process]) -> dict[tuple[str, int], str]:
    """Address and port of each listening TCP socket, and whose it is."""
    found = {}
    for process in processes:
        try:
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN and one.laddr:
                    found[one.laddr.ip, one.laddr.port] = process.name()
        except psutil.NoSuchProcess:
            continue
    return found


def test_every_socket_of_an_open_pool_listens_on_loopback(pool: Pool) -> None:
    """Without keys nothing may be reached from elsewhere: not the endpoint, not HAProxy, nothing inside Ray."""
    sockets = listening(family(pool))
    ports = {port for _, port in sockets}
    assert {pool.port, pool.grpc_port} <= ports
    if pool.kind == "ray":
        names = " ".join(sockets.values())
        assert "haproxy" in names, names
        assert "raylet" in names, names
    beyond = {where: name for where, name in sockets.items() if not loopback(where[0])}
    assert not beyond, beyond


def loopback(address: str) -> bool:
    """Whether the address is of this machine alone, also when written as IPv4 inside IPv6."""
    parsed = ipaddress.ip_address(address)
    inner = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (inner or parsed).is_loopback


@pytest.mark.parametrize(
    ("address", "alone"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False)],
)
def test_the_check_knows_loopback_from_the_rest(address: str, alone: bool) -> None:
    """A check that cannot fail is none."""
    assert loopback(address) is alone


def test_a_client_that_never_ends_its_headers_is_cut_off(pool: Pool) -> None:
    """By uvicorn's connection or by HAProxy: half a line holds no connection for longer than some seconds."""
    with socket.create_connection(("127.0.0.1", pool.port), timeout=60) as half:
        half.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: a line that never en")
        answer = b"".join(iter(lambda: half.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408"), answer


def test_a_websocket_is_refused_and_is_no_server_error(pool: Pool) -> None:
    """Nothing here speaks it."""
    with socket.create_connection(("127.0.0.1", pool.port), timeout=60) as one:
        one.sendall(
            b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        answer = one.recv(4096)
    assert answer.startswith(b"HTTP/1.1 4"), answer
