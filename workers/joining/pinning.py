"""The fleet's CA: fetched over TLS that trusts nobody yet, and trusted only if its hash is the one in the token.

The router's certificate carries the CA's in an extension, so one handshake shows both. Nothing is sent before the
hash is compared.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from protos.contract.joining.certificates import (
    AUTHORITY_EXTENSION,
    ENROL_PORT_EXTENSION,
    INSTALL_PORT_EXTENSION,
    UTF8_STRING,
)
from workers.errors import WorkerError

FETCH_DEADLINE_S = 10.0
GREETING_DEADLINE_S = 2.0
"""How long a listener may take for HTTP/2's first frame, or for hanging up on who shows no certificate."""
MAX_EXTENSION_BYTES = 16 * 1024


class NotTheRouter(WorkerError):
    """Something else answers there, or its CA is not the token's; one line."""


class Unreachable(WorkerError):
    """No TLS handshake at that address; one line. ``cause`` is what the system said."""

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the router showed in the handshake: not trusted until pinned."""

    authority_der: bytes
    valid_from_unix_s: float  # of the router's own certificate
    valid_until_unix_s: float
    enrol_port: int = 0  # where joiners knock; 0: not told
    install_port: int = 0  # where it hands itself out; 0: not told
    wants_certificate: bool = False  # it hung up: this is the session listener, for machines that have joined

    @property
    def authority_sha256(self) -> bytes:
        """The hash a join token carries."""
        return hashlib.sha256(self.authority_der).digest()


def system_reason(error: OSError) -> str:
    """What the system calls it; asyncio puts its own words into ``strerror``."""
    if error.errno is not None and error.errno > 0:  # name resolution has negative numbers of its own
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def fetch(host: str, port: int) -> Shown:
    """Shake hands with a router and read the CA it shows. Raises Unreachable, NotTheRouter."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the hash in the token decides, in ``pin``
    context.set_alpn_protocols(["h2"])
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(FETCH_DEADLINE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        raise NotTheRouter(
            f"{where} answers, but not with TLS ({error.reason or error}); is this the enrolment port that "
            "`allsorts token create` printed?"
        ) from None
    except TimeoutError as error:
        raise Unreachable(f"{where} does not answer within {FETCH_DEADLINE_S:.0f} s", error) from None
    except OSError as error:
        raise Unreachable(f"{where} cannot be reached: {system_reason(error)}", error) from None
    try:
        connection = writer.get_extra_info("ssl_object")
        shown = _read(connection.getpeercert(binary_form=True), where)
        return replace(shown, wants_certificate=await _hung_up(reader))
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        writer.transport.abort()  # a peer that does not say goodbye too is not waited for
        await asyncio.sleep(0)


async def _hung_up(reader: asyncio.StreamReader) -> bool:
    """With TLS 1.3 a server judges the client's certificate after the handshake: it greets, or it hangs up."""
    try:
        async with asyncio.timeout(GREETING_DEADLINE_S):
            return not await reader.read(1)
    except TimeoutError:
        return False
    except OSError:  # a reset, or TLS's own alert
        return True


def wrong_port(shown: Shown, host: str, port: int) -> str:
    """Where to go instead of a session listener; empty: it is the right one."""
    if not shown.wants_certificate:
        return ""
    printed = "at the address that `allsorts token create` printed"
    right = f"at {join_host_port(host, shown.enrol_port)}" if shown.enrol_port else printed
    where = join_host_port(host, port)
    return f"{where} is the router's session port, for machines that have joined already; join {right}"


def join_host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def pin(shown: Shown, expected_sha256: bytes) -> bytes:
    """The CA's certificate as PEM, if it is the expected one. Raises NotTheRouter."""
    if not hmac.compare_digest(shown.authority_sha256, expected_sha256):
        raise NotTheRouter(
            "the router there has another CA than the token was made for: a different fleet, or someone in between; "
            "nothing was sent. Make a new token on the head you mean to join"
        )
    return x509.load_der_x509_certificate(shown.authority_der).public_bytes(serialization.Encoding.PEM)


def _read(leaf_der: bytes | None, where: str) -> Shown:
    if not leaf_der:
        raise NotTheRouter(f"{where} shows no certificate; is this an allsorts router?")
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        held = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(AUTHORITY_EXTENSION)).value
        assert isinstance(held, x509.UnrecognizedExtension)
        if len(held.value) > MAX_EXTENSION_BYTES:
            raise ValueError("too large")
        authority = x509.load_der_x509_certificate(held.value)
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        raise NotTheRouter(
            f"{where} answers with TLS, but not as an allsorts router; check the address and the port"
        ) from None
    return Shown(
        authority_der=held.value,
        valid_from_unix_s=leaf.not_valid_before_utc.timestamp(),
        valid_until_unix_s=leaf.not_valid_after_utc.timestamp(),
        enrol_port=_port(leaf, ENROL_PORT_EXTENSION),
        install_port=_port(leaf, INSTALL_PORT_EXTENSION),
    )


def _port(leaf: x509.Certificate, identifier: str) -> int:
    try:
        held = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(identifier)).value
    except x509.ExtensionNotFound:
        return 0
    assert isinstance(held, x509.UnrecognizedExtension)
    kind, text = held.value[:1], held.value[2:8]
    port = int(text) if kind == bytes((UTF8_STRING,)) and text.isdigit() else 0
    return port if 0 < port < 65536 else 0
