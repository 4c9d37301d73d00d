"""A listener's certificate, made anew before it ends while the listener runs."""

import threading
from typing import Any

import grpc

from router.domain.clock import Clock
from router.trust.authority import SERVER_HOURS, Authority, ServerIdentity

RENEW_AFTER_S = SERVER_HOURS * 3600.0 / 2


class RotatingIdentity:
    """Hands gRPC a fresh certificate at the first handshake after half of the last one's life."""

    def __init__(self, authority: Authority, *, hosts: tuple[str, ...], clock: Clock) -> None:
        self._authority = authority
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()  # gRPC asks from its own threads
        self._made_at = clock.wall()
        self._enrol_port = self._install_port = 0
        self._current = authority.server_identity(hosts, self._made_at)

    def credentials(self, *, require_client_certificate: bool) -> Any:
        """Server credentials that follow this identity."""
        handed: list[ServerIdentity] = [self.current()]

        def fetch() -> Any:
            now = self.current()
            if now is handed[0]:
                return None  # unchanged
            handed[0] = now
            return self._configuration(now, require_client_certificate)

        first = self._configuration(handed[0], require_client_certificate)
        return grpc.dynamic_ssl_server_credentials(
            first, fetch, require_client_authentication=require_client_certificate
        )

    def tell_enrol_port(self, port: int) -> None:
        """Say in the certificate where joiners dial: a machine that dialled another listener learns it there."""
        with self._lock:
            self._enrol_port = port
            self._renew(self._clock.wall())

    def tell_install_port(self, port: int) -> None:
        """Say in the certificate where the router hands itself out."""
        with self._lock:
            self._install_port = port
            self._renew(self._clock.wall())

    def current(self) -> ServerIdentity:
        """The certificate to show now. A clock that jumped, either way, also makes a new one."""
        with self._lock:
            now = self._clock.wall()
            if not 0 <= now - self._made_at < RENEW_AFTER_S:
                self._renew(now)
            return self._current

    def _renew(self, now: float) -> None:
        self._current = self._authority.server_identity(
            self._hosts, now, enrol_port=self._enrol_port, install_port=self._install_port
        )
        self._made_at = now

    def _configuration(self, identity: ServerIdentity, require_client_certificate: bool) -> Any:
        roots = self._authority.certificate_pem if require_client_certificate else None
        return grpc.ssl_server_certificate_configuration([(identity.key_pem, identity.chain_pem)], roots)
