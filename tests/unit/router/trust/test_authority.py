"""Certificates: what the CA liveness, for how long, and what it refuses."""

import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.joining.certificates import AUTHORITY_EXTENSION, SERVER_NAME, worker_server_name
from protos.contract.joining.join_token import BadToken, new_token, parse_token
from router.trust.authority import (
    MAX_ADDRESSES,
    WORKER_HOURS,
    Authority,
    BadRequest,
    new_authority,
    read_request,
    request_fingerprint,
)

NOW = 1_800_000_000.0


def csr(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "whatever", *wanted: x509.ExtensionType
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for one in wanted:
        request = request.add_extension(one, critical=False)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(new_authority(NOW))


def test_a_worker_certificate_names_the_worker_whatever_the_request_asks(authority: Authority) -> None:
    """Client use only, a day long, chained to the CA, and no name a router has."""
    signed = authority.sign_worker(csr(KEY, "router.allsorts.internal"), "mac-1", NOW)
    certificate = x509.load_pem_x509_certificate(signed.pem)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "mac-1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert signed.expires_at_unix_s == NOW + WORKER_HOURS * 3600


def test_a_worker_that_asks_to_serve_does_so_under_its_own_name_and_addresses_alone(authority: Authority) -> None:
    """Whatever other names it asks for, the router's among them; and it is no authority."""
    names = [x509.DNSName(SERVER_NAME), x509.DNSName(worker_server_name("other"))]
    addresses = [x509.IPAddress(ipaddress.ip_address(f"192.0.2.{number}")) for number in range(1, 20)]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    wanted = csr(
        KEY, "x", x509.SubjectAlternativeName([*names, *addresses]), x509.ExtendedKeyUsage(both),
        x509.BasicConstraints(ca=True, path_length=None),
    )  # fmt: skip
    certificate = x509.load_pem_x509_certificate(authority.sign_worker(wanted, "draft-1", NOW).pem)
    given = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert given.get_values_for_type(x509.DNSName) == [worker_server_name("draft-1")]
    assert list(given)[1:] == addresses[:MAX_ADDRESSES]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == set(both)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc.timestamp() == NOW + WORKER_HOURS * 3600


def test_addresses_alone_are_no_wish_to_serve(authority: Authority) -> None:
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])
    for wanted in (csr(KEY, "x", names), csr(KEY, "x", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))):
        certificate = x509.load_pem_x509_certificate(authority.sign_worker(wanted, "mac-1", NOW).pem)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_router_certificate_carries_the_ca_and_serves_only(authority: Authority) -> None:
    """What a joining machine reads in its first handshake."""
    identity = authority.server_identity(("192.0.2.7", "head.local", "::1"), NOW)
    leaf, ca = x509.load_pem_x509_certificates(identity.chain_pem)
    held = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(AUTHORITY_EXTENSION)).value
    assert isinstance(held, x509.UnrecognizedExtension)
    assert held.value == ca.public_bytes(serialization.Encoding.DER)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [SERVER_NAME, "head.local"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    ssl.create_default_context(cadata=authority.certificate_pem.decode())  # OpenSSL accepts it as a CA


def test_weak_unsigned_and_foreign_requests_are_refused() -> None:
    """Each with one line."""
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(BadRequest, match="too weak"):
        read_request(csr(weak))
    good = csr(KEY)
    body = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    body[-3] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(body)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    with pytest.raises(BadRequest):
        read_request(forged)
    with pytest.raises(BadRequest, match="longer than"):
        read_request(good + b" " * 20_000)


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_a_request_or_refused(data: bytes) -> None:
    """The parser never fails in another way."""
    with pytest.raises(BadRequest):
        read_request(data)


def test_the_fingerprint_is_the_keys_not_the_requests() -> None:
    """Two requests of one key are one machine."""
    assert request_fingerprint(csr(KEY, "a")) == request_fingerprint(csr(KEY, "b"))
    other = ec.generate_private_key(ec.SECP256R1())
    assert request_fingerprint(csr(KEY)) != request_fingerprint(csr(other))


def test_a_token_is_read_as_it_was_made(authority: Authority) -> None:
    """The text is the contract between head and joiner, as are name and extension."""
    token = new_token(authority.fingerprint)
    parsed = parse_token(f"  {token.text()}\n")
    assert parsed == token
    assert parsed.is_for(authority.fingerprint)


def test_a_token_shows_its_secret_nowhere_but_in_its_text(authority: Authority) -> None:
    """repr ends up in logs."""
    token = new_token(authority.fingerprint)
    assert token.secret not in repr(token)
    assert token.secret not in token.secret_sha256()


@given(st.text(max_size=120) | st.from_regex(r"as1\.[A-Za-z0-9_-]{0,60}\.[a-f0-9]{0,8}\.\w{0,8}", fullmatch=True))
def test_whatever_is_pasted_is_a_token_or_refused_in_one_line(text: str) -> None:
    """Nothing else is raised, and the line does not repeat it."""
    try:
        parse_token(text)
    except BadToken as error:
        assert "\n" not in str(error)  # noqa: PT017 - a token is as good an outcome
