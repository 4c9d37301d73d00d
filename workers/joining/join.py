"""Joining a fleet over TLS: pin the CA, hand over token and certificate request, keep what comes back; and renewing.

Nothing here prints; ``workers/cli/join.py`` shows it to people.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509

from protos.contract.joining.certificates import BACKDATED_S
from protos.contract.joining.enrolment import ModelOffer
from protos.contract.joining.join_token import JoinToken
from protos.contract.worker import ModelInstance, Profile
from workers.joining.membership_files import MembershipFiles, MembershipRecord
from workers.joining.pinning import NotTheRouter, Unreachable, fetch, pin, wrong_port
from workers.session.channel import open_channel, open_enrolment_channel
from workers.session.enrolment import EnrolFailed, enrol_over, renew_over

log = structlog.get_logger(__name__)

RENEW_AT = 2 / 3
"""Of a certificate's life."""

RENEW_RETRY_S = 60.0
MIN_LIFE_S = 60.0
"""A router that gives certificates for less is not asked for another one all the time."""

JUMP_S = 300.0
"""The wall clock moved: more than network time corrects step by step."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A machine that was let in."""

    files: MembershipFiles
    membership: MembershipRecord
    offers: tuple[ModelOffer, ...]
    clock_skew_s: float  # this machine's clock minus the router's


async def join_fleet(
    address: str,
    token: JoinToken | None,
    profile: Profile,
    state_dir: Path,
    *,
    say: Say = lambda _: None,
    files_here: Sequence[ModelInstance] = (),
    serves_at: tuple[str, ...] = (),
) -> Joined:
    """Enrol at ``address``. Without a token, the key from an earlier join speaks for this machine.

    ``say`` hears a line per step; ``files_here`` are model files the router is asked about; ``serves_at``: a draft's
    addresses. Raises EnrolFailed, NotTheRouter, Unreachable, OSError: each one clear line.
    """
    host, port = split_address(address)
    shown = await fetch(host, port)
    if token is not None:
        files = MembershipFiles.of(state_dir, token.authority_sha256, profile.node)
        authority_pem = pin(shown, token.authority_sha256)
    else:
        found = MembershipFiles.find(state_dir, address, profile.node)
        if found is None:
            if elsewhere := wrong_port(shown, host, port):
                raise NotTheRouter(elsewhere)
            raise EnrolFailed(_not_joined(state_dir, address, profile.node), retryable=False)
        files = found
        pinned = x509.load_pem_x509_certificate(files.authority.read_bytes())
        authority_pem = pin(shown, _sha256(pinned))
    if elsewhere := wrong_port(shown, host, port):
        raise NotTheRouter(elsewhere)
    files.keep_authority(authority_pem)
    say(f"the router at {address} is the right one: its CA has the hash {shown.authority_sha256.hex()[:16]}…")
    return await _enrol(address, token, profile, files, files_here, serves_at)


def _not_joined(state_dir: Path, address: str, node: str) -> str:
    line = f"this machine has not joined {address} as '{node}' yet"
    names = [one.node for _, one in MembershipFiles.joined_at(state_dir, address)]
    if names:
        return f"{line}, but as {' and '.join(names)}: give --node {names[0]}, or a token to join under another name"
    return f"{line}; get a line to paste with `allsorts token create` on the head"


async def _enrol(
    address: str,
    token: JoinToken | None,
    profile: Profile,
    files: MembershipFiles,
    files_here: Sequence[ModelInstance],
    serves_at: tuple[str, ...],
) -> Joined:
    async with open_enrolment_channel(address, files.authority) as channel:
        reply = await enrol_over(
            channel,
            address,
            profile,
            token=token.text() if token else "",
            certificate_request=files.certificate_request(serves_at),
            files=files_here,
        )
    membership = MembershipRecord(
        enrol_address=address,
        node=profile.node,
        worker_id=reply.worker_id,
        replicas=tuple(one.address for one in reply.replicas),
        expires_at_unix_s=reply.expires_at_unix_s,
        serves_at=serves_at,
    )
    files.keep(reply.certificate, membership)
    made_at = x509.load_pem_x509_certificate(reply.certificate).not_valid_before_utc.timestamp() + BACKDATED_S
    return Joined(
        files=files,
        membership=membership,
        offers=reply.offers,
        clock_skew_s=time.time() - made_at,
    )


async def renew(files: MembershipFiles) -> MembershipRecord:
    """A fresh certificate for the same key, from any replica. Raises EnrolFailed."""
    membership = files.membership()
    if membership is None:
        raise EnrolFailed(f"{files.folder}: no membership to renew; join with a token", retryable=False)
    failure = EnrolFailed("the router named no address to renew at", retryable=True)
    for address in membership.replicas:
        try:
            async with open_channel(address, files.security()) as channel:
                reply = await renew_over(channel, address, files.certificate_request(membership.serves_at))
        except EnrolFailed as failed:
            if not failed.retryable:
                raise
            failure = failed
            continue
        fresh = MembershipRecord(
            enrol_address=membership.enrol_address,
            node=membership.node,
            worker_id=membership.worker_id,
            replicas=membership.replicas,
            expires_at_unix_s=reply.expires_at_unix_s,
            serves_at=membership.serves_at,
        )
        files.keep(reply.certificate, fresh)
        log.info("certificate.renewed", worker=fresh.worker_id, expires_at_unix_s=fresh.expires_at_unix_s)
        return fresh
    raise failure


async def keep_renewed(files: MembershipFiles, profile: Profile) -> None:
    """Renew at two thirds of each certificate's life, until cancelled or refused for good.

    A certificate that ended all the same (the machine slept) is replaced by enrolling again with the same key. This
    machine's own wall clock, which may be wrong or set anew at any time, decides nothing.
    """
    while (membership := files.membership()) is not None:
        await _until_due(membership.expires_at_unix_s - _begin(files.certificate))
        try:
            await _renew_or_enrol(files, membership, profile)
        except (EnrolFailed, NotTheRouter, Unreachable, OSError) as error:
            log.warning("certificate.not_renewed", reason=str(error), retry_in_s=RENEW_RETRY_S)
            if isinstance(error, EnrolFailed) and not error.retryable:
                return
            await asyncio.sleep(RENEW_RETRY_S)


async def _renew_or_enrol(files: MembershipFiles, membership: MembershipRecord, profile: Profile) -> None:
    try:
        await renew(files)
    except EnrolFailed as failed:
        if not failed.retryable:
            raise
        log.info("certificate.enrols_again", reason=str(failed))  # no replica takes it: it may have ended
        state = files.folder.parent.parent
        await join_fleet(membership.enrol_address, None, profile, state, serves_at=membership.serves_at)


async def _until_due(life_s: float) -> None:
    """Two thirds of ``life_s`` by a clock that cannot be set; at once when the wall clock moved against that one: the
    machine slept, or its clock was set, and nobody knows how old the certificate is.
    """
    life_s = max(life_s, MIN_LIFE_S)
    began, apart = time.monotonic(), _clocks_apart()
    while (left_s := began + life_s * RENEW_AT - time.monotonic()) > 0 and abs(_clocks_apart() - apart) < JUMP_S:  # noqa: ASYNC110 - nothing announces a jump
        await asyncio.sleep(min(left_s, RENEW_RETRY_S))


def _clocks_apart() -> float:
    return time.time() - time.monotonic()


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises EnrolFailed."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise EnrolFailed(f"{address!r}: write HOST:PORT as `allsorts token create` printed it", retryable=False)
    return host.strip("[]"), int(port)


def _begin(certificate: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_before_utc.timestamp() + BACKDATED_S
    return time.time()


def _sha256(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256())
