"""What the client certificate of a gRPC connection says. Without TLS it says nothing."""

from typing import Any

from cryptography import x509


def peer_worker_id(context: Any) -> str | None:
    """The worker id in the client certificate (its common name); None without one."""
    names = context.auth_context().get("x509_common_name")
    return names[0].decode() if names else None


def peer_certificate_end(context: Any) -> float | None:
    """When the client certificate ends, in Unix seconds; None without one."""
    pems = context.auth_context().get("x509_pem_cert")
    return x509.load_pem_x509_certificate(pems[0]).not_valid_after_utc.timestamp() if pems else None
