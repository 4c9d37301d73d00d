"""What can be wrong with installing: the engine that has to be built here, and the head's own version."""

import asyncio
import sys
from pathlib import Path

from protos.contract.joining.versions import own_version
from workers.doctor.finding import Finding
from workers.installing.door_client import Credentials, DoorClient, NotOffered, Offer
from workers.installing.llama_plan import LlamaPlan
from workers.installing.own_place import own_place, runs_from_own_place
from workers.joining.membership_files import MembershipFiles
from workers.joining.pinning import join_host_port


def check_build(plan: LlamaPlan) -> Finding:
    """Whether llama.cpp can be compiled here, and for what."""
    detail = f"{plan.about} ({' '.join(plan.options)})"
    if not plan.missing:
        return Finding(check="build", ok=True, detail=f"can be compiled: {detail}")
    lacks = ", ".join(one.what for one in plan.missing)
    commands = "; ".join(one.command for one in plan.missing)
    return Finding(check="build", ok=False, detail=f"{detail}: {lacks} is missing", hint=commands)


def check_environment() -> Finding:
    """Which version this is, and where."""
    here = f"{own_place()}, as the pasted line made it" if runs_from_own_place() else sys.prefix
    python = ".".join(map(str, sys.version_info[:3]))
    return Finding(check="installed", ok=True, detail=f"allsorts {own_version()} in {here}; Python {python}")


async def check_install_port(
    host: str, port: int, authority_pem: bytes, *, token: str = "", files: MembershipFiles | None = None
) -> Finding:
    """What the head hands out to this machine, by its certificate where it joined, else by the token."""
    where = join_host_port(host, port)
    try:
        offer = await asyncio.to_thread(_offer, host, port, authority_pem, token, files)
    except (NotOffered, OSError) as error:
        hint = f"on the head, allow TCP port {port}: machines that join install from there, and are upgraded from there"
        return Finding(check="install", ok=False, detail=str(error), hint=hint)
    beside = f", {len(offer.packages)} wheels beside it" if offer.packages else ""
    beside += f", {len(offer.builds)} builds of llama.cpp" if offer.builds else ""
    detail = f"{where} hands out {offer.wheel} ({offer.wheel_sha256[:16]}…){beside}"
    if not _runs_what_is_offered(offer):
        return Finding(check="install", ok=True, detail=f"{detail}; another version than here: allsorts upgrade")
    return Finding(check="install", ok=True, detail=detail)


def _runs_what_is_offered(offer: Offer) -> bool:
    """True too where this program came by other ways, and nobody can tell."""
    offered = own_place().resolve() / "versions" / offer.wheel_sha256[:16]
    return not runs_from_own_place() or Path(sys.prefix).resolve().is_relative_to(offered)


def _offer(host: str, port: int, authority_pem: bytes, token: str, files: MembershipFiles | None) -> Offer:
    credentials = (
        Credentials(authority_pem=authority_pem, token=token)
        if files is None
        else Credentials(authority_pem=authority_pem, certificate=files.certificate, key=files.key)
    )
    with DoorClient(host, port, credentials) as client:
        return client.offer()
