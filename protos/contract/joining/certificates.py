"""What routers and workers must know alike of the pool's certificates."""

import hashlib

SERVER_NAME = "router.allsorts.internal"
"""The name every router has in its certificate, whatever its address; no worker certificate bears it."""

WORKER_DOMAIN = "worker.allsorts.internal"
"""Below it, every worker that serves has a name, by its id alone; the CA gives it, whatever a request asks for."""


def worker_server_name(worker_id: str) -> str:
    """The name in the certificate of a worker that serves: whoever was sent there knows that it is the one.

    >>> worker_server_name("mac-1")
    'w-1f0efc62c80760e53a5f7cd9a1c7aff1.worker.allsorts.internal'
    """
    return f"w-{hashlib.sha256(worker_id.encode()).hexdigest()[:32]}.{WORKER_DOMAIN}"


AUTHORITY_EXTENSION = "2.25.198437423651274390128374650192837465"
"""A UUID-based identifier (ITU-T X.667), ours alone: the CA's certificate, DER, inside the router's."""

ENROL_PORT_EXTENSION = "2.25.125564296347077280919949973991965245959"
"""Another one: the port that enrols machines, as a UTF8String, for those who dialled elsewhere."""

INSTALL_PORT_EXTENSION = "2.25.67830152493871650284417093326518840127"
"""And another: the port where the router hands itself out, as a UTF8String."""

UTF8_STRING = 0x0C
"""ASN.1's tag of one."""

BACKDATED_S = 600.0
"""Certificates begin this long before they are made: clocks differ."""
