"""Who is at the other end of a gRPC call: its address, and what its client certificate says (without TLS, nothing)."""

from typing import Any

from cryptography import x509

from router.trust.enroller import Peer


def peer_of(context: Any) -> Peer:
    """Address, and the worker id in the client certificate (its common name)."""
    names = context.auth_context().get("x509_common_name")
    return Peer(address=context.peer(), worker_id=names[0].decode() if names else None)


def certificate_end(context: Any) -> float | None:
    """When the client certificate ends, in Unix seconds; None without one."""
    pems = context.auth_context().get("x509_pem_cert")
    return x509.load_pem_x509_certificate(pems[0]).not_valid_after_utc.timestamp() if pems else None
