"""What to do about a join that fails, cause by cause: the sentences below the doctor's findings."""

import errno
import ipaddress

from protos.contract.joining.enrolment import ReasonCode

CHOOSE_ENGINE = "choose another with --engine"
WRONG_PORT = "use the address that `allsorts token create` printed: it is the enrolment port, not the HTTP one"


def silent_hint(ip: str, port: int) -> str:
    """For an address from which nothing comes back."""
    return (
        f"a firewall drops it, or {ip} is not the head's address in this network: on the head, allow TCP port {port} "
        "(macOS: System Settings, Network, Firewall; Linux: ufw allow or firewall-cmd), and look at its addresses"
    )


def refused_hint(error: OSError, ip: str, port: int, platform: str) -> str:
    """For a connection that the system refused, by its error number."""
    local = ipaddress.ip_address(ip.partition("%")[0]).is_private
    if error.errno == errno.EHOSTUNREACH and platform == "darwin" and local:
        return (
            "macOS keeps this program from the local network: allow the terminal under System Settings, Privacy & "
            "Security, Local Network, then start it anew"
        )
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"there is no route to {ip}: are both machines in one network (or VPN)?"
    if error.errno == errno.ECONNREFUSED:
        return (
            f"nothing listens on port {port} at {ip}: is the router running, started with --grpc-host 0.0.0.0 (or that "
            "address), and is this the enrolment port?"
        )
    return silent_hint(ip, port)


_MAKE_ONE = "on the head: allsorts token create"
_REFUSAL_HINTS = {
    ReasonCode.TOKEN_EXPIRED: f"{_MAKE_ONE} --ttl 1h",
    ReasonCode.TOKEN_USED: f"{_MAKE_ONE} (one per machine, or --uses N)",
    ReasonCode.TOKEN_UNKNOWN: f"{_MAKE_ONE}, and paste its whole line",
    ReasonCode.TOKEN_DAMAGED: f"{_MAKE_ONE}, and paste its whole line",
    ReasonCode.NOT_ENROLLED: f"{_MAKE_ONE}, and paste its whole line",
    ReasonCode.OTHER_POOL: "make the token on the head that you mean to join",
    ReasonCode.REVOKED: "the operator cut this machine off; `allsorts leave` removes its keys, to start over",
    ReasonCode.PROTOCOL: "install the same version on both machines: pip install --upgrade allsorts",
}


def refusal_hint(code: ReasonCode | None) -> str:
    """For a router's refusal, by its reason; None: it gave none."""
    return _REFUSAL_HINTS.get(code, "look at the router's log") if code else "look at the router's log"
