"""The pool's certificate authority: one key in the store, short-lived certificates for routers and workers.

Router certificates carry the CA's own certificate in an extension, so that a joining machine gets both with the
TLS handshake, compares the CA's hash with the one in its token, and trusts nothing before that. Workers check the
router against the fixed name ``SERVER_NAME`` instead of an address: addresses change, and no worker certificate
bears that name. A worker may serve only where its request asks for it (a draft does), and then under the one name that
follows from its id: its targets check that, and a stolen certificate serves as nobody else.
"""

import datetime as dt
import hashlib
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos.contract.joining.certificates import (
    AUTHORITY_EXTENSION,
    BACKDATED_S,
    ENROL_PORT_EXTENSION,
    INSTALL_PORT_EXTENSION,
    SERVER_NAME,
    UTF8_STRING,
    worker_server_name,
)
from router.state.rows import AuthorityRow

AUTHORITY_DAYS = 3650
SERVER_HOURS = 48.0
WORKER_HOURS = 24.0
"""A stolen certificate is worth a day; renewed at two thirds of it over the session's connection."""

BACKDATED = dt.timedelta(seconds=BACKDATED_S)

REQUEST_LIMIT_BYTES = 16 * 1024

MAX_ADDRESSES = 8
"""In the certificate of a worker that serves."""


class BadRequest(Exception):
    """A certificate request that is not one, or whose key is too weak; one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A signed certificate and when it ends."""

    pem: bytes
    expires_at_unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a TLS listener shows: its certificate chain and key."""

    chain_pem: bytes
    key_pem: bytes


def new_authority(now: float) -> AuthorityRow:
    """A fresh CA; P-256, because every TLS library in use speaks it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "allsorts pool")])
    begin = _time(now) - BACKDATED
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return AuthorityRow(key_pem=_private_pem(key), certificate_pem=_pem(certificate))


class Authority:
    """Signs for one pool."""

    def __init__(self, record: AuthorityRow) -> None:
        key = serialization.load_pem_private_key(record.key_pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(record.certificate_pem)
        self.certificate_pem = record.certificate_pem
        self.fingerprint = hashlib.sha256(self._der()).digest()  # 32 bytes, what join tokens carry

    def sign_worker(self, request_pem: bytes, worker_id: str, now: float) -> Certificate:
        """A client certificate whose common name is the worker's id, whatever the request asks for; one that serves as
        well where the request says that it will. Raises BadRequest.
        """
        request = read_request(request_pem)
        builder = self._builder(request.public_key(), worker_id, now, WORKER_HOURS)
        if asks_to_serve(request):
            names = [x509.DNSName(worker_server_name(worker_id)), *_addresses(request)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            purposes = _purpose(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
        else:
            purposes = _purpose(ExtendedKeyUsageOID.CLIENT_AUTH)
        certificate = builder.add_extension(purposes, critical=True).sign(self._key, hashes.SHA256())
        return Certificate(pem=_pem(certificate), expires_at_unix_s=certificate.not_valid_after_utc.timestamp())

    def server_identity(
        self, hosts: tuple[str, ...], now: float, *, enrol_port: int = 0, install_port: int = 0
    ) -> ServerIdentity:
        """A fresh key and certificate for a listener known as ``hosts``; it tells where joiners dial, and where the
        router hands itself out (0: nowhere).
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME), *(_general_name(host) for host in hosts if host)]
        builder = (
            self._builder(key.public_key(), "allsorts router", now, SERVER_HOURS)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_purpose(ExtendedKeyUsageOID.SERVER_AUTH), critical=True)
            .add_extension(_extension(AUTHORITY_EXTENSION, self._der()), critical=False)
        )
        for identifier, port in ((ENROL_PORT_EXTENSION, enrol_port), (INSTALL_PORT_EXTENSION, install_port)):
            if port:
                text = str(port).encode()
                told = _extension(identifier, bytes((UTF8_STRING, len(text))) + text)
                builder = builder.add_extension(told, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return ServerIdentity(chain_pem=_pem(certificate) + self.certificate_pem, key_pem=_private_pem(key))

    def _builder(
        self, public_key: CertificatePublicKeyTypes, name: str, now: float, hours: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(now) - BACKDATED)
            .not_valid_after(_time(now) + dt.timedelta(hours=hours))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _der(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.DER)


def read_request(request_pem: bytes) -> x509.CertificateSigningRequest:
    """A certificate request whose sender holds its key, and whose key is strong enough. Raises BadRequest."""
    if len(request_pem) > REQUEST_LIMIT_BYTES:
        raise BadRequest(f"the certificate request is longer than {REQUEST_LIMIT_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(request_pem)
        proven = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadRequest(f"not a certificate request this router understands: {type(error).__name__}") from None
    if not proven:
        raise BadRequest("the certificate request is not signed with its own key")
    strong = (
        isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))
        or (isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192)
    )  # fmt: skip
    if not strong:
        raise BadRequest("the certificate request's key is too weak; use P-256")
    return request


def asks_to_serve(request: x509.CertificateSigningRequest) -> bool:
    """Whether a request names serving among its purposes."""
    try:
        usage = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in usage


def _addresses(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """IP addresses that a request names, a few. Names are the CA's to give."""
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [x509.IPAddress(one) for one in names.get_values_for_type(x509.IPAddress)[:MAX_ADDRESSES]]


def request_fingerprint(request_pem: bytes) -> str:
    """SHA-256 of the request's public key, hex: a machine's identity over renewals. Raises BadRequest."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public = read_request(request_pem).public_key().public_bytes(serialization.Encoding.DER, spki)
    return hashlib.sha256(public).hexdigest()


def _extension(identifier: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(identifier), value)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purpose(*purposes: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(purposes)


def _time(unix_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(unix_s), dt.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
