"""The pool's CA: fetched over TLS that trusts nobody yet, and trusted only if its hash is the one in the token.

The router's certificate carries the CA's in an extension, so one handshake shows both. Nothing is sent before the
hash is compared.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

AUTHORITY_EXTENSION = x509.ObjectIdentifier("2.25.198437423651274390128374650192837465")
"""As in ``router/fleet/authority.py``: the CA's certificate, DER, inside the router's."""

FETCH_DEADLINE_S = 10.0
LARGEST_EXTENSION = 16 * 1024


class NotTheRouter(Exception):
    """Something else answers there, or its CA is not the token's; one line."""


class Unreachable(Exception):
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
    del reader
    try:
        connection = writer.get_extra_info("ssl_object")
        return _read(connection.getpeercert(binary_form=True), where)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


def pin(shown: Shown, expected_sha256: bytes) -> bytes:
    """The CA's certificate as PEM, if it is the expected one. Raises NotTheRouter."""
    if not hmac.compare_digest(shown.authority_sha256, expected_sha256):
        raise NotTheRouter(
            "the router there has another CA than the token was made for: a different pool, or someone in between; "
            "nothing was sent. Make a new token on the head you mean to join"
        )
    return x509.load_der_x509_certificate(shown.authority_der).public_bytes(serialization.Encoding.PEM)


def _read(leaf_der: bytes | None, where: str) -> Shown:
    if not leaf_der:
        raise NotTheRouter(f"{where} shows no certificate; is this an allsorts router?")
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        held = leaf.extensions.get_extension_for_oid(AUTHORITY_EXTENSION).value
        assert isinstance(held, x509.UnrecognizedExtension)
        if len(held.value) > LARGEST_EXTENSION:
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
    )
