"""The head's install port, found by its enrolment port: the router's certificate says where it is."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from protos.contract.joining.join_token import parse_token
from workers.installing.door_client import Credentials, DoorClient
from workers.joining.join import split_address
from workers.joining.membership_files import MembershipFiles
from workers.joining.pinning import fetch, pin
from workers.session.enrolment import EnrolFailed


@contextlib.contextmanager
def door_of(head: str, token: str, state_dir: Path) -> Iterator[DoorClient | None]:
    """A client that trusts the head's CA alone: the token's, or the one pinned when this machine joined.

    None where no head is named, or it hands nothing out. Raises EnrolFailed, NotTheRouter, Unreachable, BadToken,
    OSError. Blocks.
    """
    if not head:
        yield None
        return
    host, port = split_address(head)
    shown = asyncio.run(fetch(host, port))
    if token:
        parsed = parse_token(token)
        credentials = Credentials(authority_pem=pin(shown, parsed.authority_sha256), token=parsed.text())
    else:
        known = MembershipFiles.joined_at(state_dir, head)
        if not known:
            raise EnrolFailed(f"this machine has not joined {head}: give a --token", retryable=False)
        files = known[0][0]
        credentials = Credentials(
            authority_pem=files.authority.read_bytes(), certificate=files.certificate, key=files.key
        )
    if not shown.install_port:
        yield None
        return
    with DoorClient(host, shown.install_port, credentials) as client:
        yield client
