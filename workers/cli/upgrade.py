"""``allsorts upgrade``: this machine to the version of its head."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from protos.contract.printable import plain_text
from workers.cli.alone import run_alone
from workers.errors import WorkerError
from workers.installing.door_client import Credentials, DoorClient
from workers.installing.engines_again import install_engines
from workers.installing.own_place import own_place, runs_from_own_place
from workers.installing.own_version import CannotInstall, OwnVersions
from workers.joining.home import Home
from workers.joining.join import split_address
from workers.joining.membership_files import MembershipFiles, MembershipRecord
from workers.joining.pinning import fetch, pin
from workers.joining.staying.restart import restart
from workers.joining.staying.uninstall import joined_fleets


def upgrade(
    node: Annotated[str, typer.Option(help="Of the fleet joined under this name, where there are several.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Only say whether the head has another version.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
) -> None:
    """Bring this machine to its head's version: fetched from the head over the pool's TLS, checked by hash.

    Streams move first: what serves here finishes or gives back what runs, becomes the new version in place and joins
    with the same key. A version that cannot be installed, or does not come back, leaves the one before in use.

    Examples:
      allsorts upgrade --check

      allsorts upgrade

    """
    try:
        _upgrade(node, state_dir, check=check)
    except (WorkerError, OSError) as error:
        typer.echo(plain_text(f"allsorts upgrade: {error}"), err=True)
        raise typer.Exit(1) from None


def _upgrade(node: str, state_dir: Path | None, *, check: bool) -> None:
    fleets = joined_fleets(Home.of(state_dir).state)
    files, known = _the_one(fleets, node)
    versions = OwnVersions(own_place())
    with _door(files, known) as door:
        offer = door.offer()
        place = versions.place(offer.wheel_sha256)
        level = runs_from_own_place() and Path(sys.prefix).resolve().is_relative_to(place.resolve())
        if level or check:
            _say(
                f"{'level with' if level else 'another version than'} the head at {known.enrol_address}: {offer.wheel}"
            )
            return
        if not runs_from_own_place():
            raise CannotInstall(
                f"this allsorts lies in {sys.prefix}, which the head's line did not make: bring it level as it came "
                f"(the head has {offer.wheel}), or paste a line of `allsorts token create`"
            )
        with versions.alone():
            before = versions.in_use
            versions.install(door, offer, _say)
            install_engines(place, known.enrol_address, state_dir, _say)
            versions.use(place)
    try:
        back = [restart(one, _say) for one in fleets]
    except OSError:
        if before is not None:
            versions.use(before)
            _say(f"the version before is in use again: {before}")
        raise
    if not any(back):
        _say("nothing serves here now; the next join is the new version")
    versions.keep_only(place, *([before] if before is not None else []))


def _the_one(fleets: list[MembershipFiles], node: str) -> tuple[MembershipFiles, MembershipRecord]:
    """The fleet whose head decides."""
    known = [(one, record) for one in fleets if (record := one.membership()) is not None]
    named = [(one, record) for one, record in known if node in ("", record.node)]
    if not named:
        raise CannotInstall(
            f"this machine has joined nothing{f' as {node!r}' if node else ''}: a head tells the version"
        )
    if len({record.enrol_address for _, record in named}) > 1:
        raise CannotInstall(f"several heads: choose one with --node: {', '.join(one.node for _, one in named)}")
    return named[0]


def _door(files: MembershipFiles, known: MembershipRecord) -> DoorClient:
    """The head's install port, by its own word; its CA must be the pinned one."""
    host, port = split_address(known.enrol_address)
    pem = files.authority.read_bytes()
    shown = asyncio.run(fetch(host, port))
    pin(shown, x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()))
    if not shown.install_port:
        raise CannotInstall(f"the head at {known.enrol_address} hands nothing out; bring this machine level by hand")
    credentials = Credentials(authority_pem=pem, certificate=files.certificate, key=files.key)
    return DoorClient(host, shown.install_port, credentials)


def _say(line: str) -> None:
    typer.echo(plain_text(f"· {line}"), err=True)


if __name__ == "__main__":
    run_alone(upgrade)
