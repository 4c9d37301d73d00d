"""Why a join fails: one check after the other, from this machine outwards; each names the cause and the hint.

Nothing is changed by looking: the token is examined, not used, and no certificate is kept.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from protos.contract.joining.join_token import BadToken, JoinToken, parse_token
from protos.contract.worker import Hardware, Profile
from workers.doctor.finding import Finding
from workers.doctor.hints import CHOOSE_ENGINE, WRONG_PORT, refusal_hint, refused_hint, silent_hint
from workers.doctor.install_checks import check_build, check_environment, check_install_port
from workers.engines.table import ENGINES, make_engine
from workers.errors import WorkerError
from workers.hardware.detect import this_machine
from workers.installing.provide import LLAMA_CPP, llama_plan_here
from workers.joining.join import split_address
from workers.joining.membership_files import MembershipFiles
from workers.joining.pinning import (
    NotTheRouter,
    Shown,
    Unreachable,
    fetch,
    join_host_port,
    pin,
    system_reason,
    wrong_port,
)
from workers.session.channel import open_enrolment_channel
from workers.session.enrolment import EnrolFailed, enrol_over

CONNECT_DEADLINE_S = 6.0
MODEL_OVERHEAD_BYTES = 1024 * 2**20
"""What an engine takes beside the weights: llama.cpp's ``--fit`` margin per device (FACTS, overheads)."""


async def local_checks(*, engine: str, model: Path | None, hardware: Hardware | None = None) -> AsyncIterator[Finding]:
    """What can be wrong on this machine alone: the engine or what it is built with, the model's file, its memory."""
    yield check_environment()
    try:
        made = make_engine(engine)
        detail = f"{made.kind} {made.version}".strip()
        await made.close()
        yield Finding(check="engine", ok=True, detail=detail)
    except WorkerError as error:
        yield Finding(check="engine", ok=False, detail=str(error), hint=_engine_hint(engine))
        if engine == LLAMA_CPP:
            yield check_build((await asyncio.to_thread(llama_plan_here))[0])
    if model is not None:
        yield _memory(model, hardware if hardware is not None else await asyncio.to_thread(this_machine))


def _engine_hint(name: str) -> str:
    """For an engine that cannot be made."""
    engine = ENGINES.get(name)
    return engine.installation if engine is not None and engine.extra else CHOOSE_ENGINE


async def connection_checks(
    address: str, token_text: str = "", *, node: str = "", state_dir: Path | None = None
) -> AsyncIterator[Finding]:
    """From the address to the session listener, stopping where going on makes no sense."""
    token: JoinToken | None = None
    if token_text:
        try:
            token = parse_token(token_text)
            yield Finding(check="token", ok=True, detail="well formed")
        except BadToken as error:
            yield Finding(check="token", ok=False, detail=str(error), hint="copy the whole line that was printed")
    try:
        host, port = split_address(address)
    except EnrolFailed as error:
        yield Finding(check="address", ok=False, detail=str(error), hint="copy HOST:PORT from the printed line")
        return
    reached = await check_reach(host, port)
    yield reached
    if not reached.ok:
        return
    try:
        shown = await fetch(host, port)
    except (NotTheRouter, Unreachable) as error:
        yield Finding(check="certificate", ok=False, detail=str(error), hint=WRONG_PORT)
        return
    yield check_clock(shown, time.time())
    if elsewhere := wrong_port(shown, host, port):
        right = join_host_port(host, shown.enrol_port) if shown.enrol_port else ""
        yield Finding(check="port", ok=False, detail=elsewhere, hint=f"use {right}" if right else WRONG_PORT)
        return
    files = _files(state_dir or Path(platformdirs.user_state_dir("allsorts")), address, node, token)
    async for finding in _pool_checks(address, token, shown, files):
        yield finding


def _files(state_dir: Path, address: str, node: str, token: JoinToken | None) -> MembershipFiles | None:
    """What an earlier join under this name left, in the token's fleet. Without a name: under this machine's own, or the
    one it used instead.
    """
    joined = {
        known.node: files
        for files, known in MembershipFiles.joined_at(state_dir, address)
        if token is None or _pinned(files) == token.authority_sha256
    }
    if node or _node() in joined:
        return joined.get(node or _node())
    return next(iter(joined.values()), None)


async def check_reach(host: str, port: int, *, platform: str = sys.platform) -> Finding:
    """Name resolution and a TCP connection."""
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        hint = "check the spelling, or use the head's IP address; .local names need both machines in one network"
        return Finding(check="address", ok=False, detail=f"the name {host} does not resolve", hint=hint)
    ip = str(found[0][4][0])
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Finding(check="address", ok=False, detail=f"{where} does not answer", hint=silent_hint(ip, port))
    except OSError as error:
        detail = f"{where}: {system_reason(error)}"
        return Finding(check="address", ok=False, detail=detail, hint=refused_hint(error, ip, port, platform))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Finding(check="address", ok=True, detail=f"{where} answers ({ip})")


def check_clock(shown: Shown, now: float) -> Finding:
    """The clock here against the validity of the router's certificate, which is made by the router's clock."""
    if now < shown.valid_from_unix_s:
        off_s, word = shown.valid_from_unix_s - now, "behind"
    elif now > shown.valid_until_unix_s:
        off_s, word = now - shown.valid_until_unix_s, "ahead of"
    else:
        return Finding(check="clock", ok=True, detail="inside the validity of the router's certificate")
    return Finding(
        check="clock",
        ok=False,
        detail=f"this machine's clock is at least {off_s / 60:.0f} min {word} the router's",
        hint="set both clocks by network time (macOS: System Settings, Date & Time; Linux: timedatectl set-ntp true)",
    )


async def _pool_checks(
    address: str, token: JoinToken | None, shown: Shown, files: MembershipFiles | None
) -> AsyncIterator[Finding]:
    if token is None and files is None:
        hint = "run `allsorts token create` on the head and paste its line, or give the doctor its --token"
        yield Finding(check="token", ok=False, detail="no token, and this machine never joined there", hint=hint)
        return
    expected = token.authority_sha256 if token is not None else _pinned(files)
    try:
        authority = pin(shown, expected)
    except NotTheRouter as error:
        hint = "make a new token on the head you mean; if it is the right one, its state was lost or replaced"
        yield Finding(check="certificate", ok=False, detail=str(error), hint=hint)
        return
    yield Finding(check="certificate", ok=True, detail="the router's CA is the expected one")
    with _kept_in_a_file(authority) as file:
        answer = await _ask_router(address, token if files is None else None, files, file)
        yield answer.finding
        if token is not None and files is not None:
            # a token this very machine has used is no fault: its key is enough from then on
            spare = await _ask_router(address, token, None, file)
            needless = answer.finding.ok and not spare.finding.ok
            said = f"not needed any more, the key from the earlier join is enough ({spare.finding.detail})"
            yield Finding(check="token", ok=True, detail=said) if needless else spare.finding
    for replica in answer.replicas:
        yield await _session_listener(replica, address)
    if shown.install_port and answer.finding.ok:
        text = token.text() if token is not None else ""
        host, _ = split_address(address)
        yield await check_install_port(host, shown.install_port, authority, token=text, files=files)


@dataclass(frozen=True, slots=True)
class _Answer:
    finding: Finding
    replicas: tuple[str, ...] = ()


async def _ask_router(address: str, token: JoinToken | None, files: MembershipFiles | None, authority: Path) -> _Answer:
    """Ask the router about the token, or about the key from an earlier join."""
    what = "token" if token is not None else "membership"
    known = files.membership() if files is not None else None
    node = known.node if known is not None else _node()
    profile = Profile(node=node, hardware=Hardware(kind="cpu", name="doctor"), engine="doctor")
    request = b"" if token or files is None else files.certificate_request()
    try:
        async with open_enrolment_channel(address, authority) as channel:
            reply = await enrol_over(
                channel, address, profile, token=token.text() if token else "", certificate_request=request
            )
    except EnrolFailed as failed:
        return _Answer(Finding(check=what, ok=False, detail=failed.detail, hint=refusal_hint(failed.code)))
    detail = "good for this machine" if token else f"known as {reply.worker_id}, node {node}"
    return _Answer(Finding(check=what, ok=True, detail=detail), tuple(one.address for one in reply.replicas))


async def _session_listener(replica: str, enrol_address: str) -> Finding:
    """The address workers are told to dial may be on an interface this machine does not reach."""
    host, port = split_address(replica)
    reached = await check_reach(host, port)
    if reached.ok:
        return Finding(check="session", ok=True, detail=f"{replica} answers")
    same_host = host == split_address(enrol_address)[0]
    if same_host:
        return Finding(check="session", ok=False, detail=reached.detail, hint=reached.hint)
    hint = (
        f"wrong interface: the head tells workers to dial {host}, which is not reached from here, though "
        f'{enrol_address} is. Start the router with grpc.advertised_host = "{split_address(enrol_address)[0]}"'
    )
    return Finding(check="session", ok=False, detail=reached.detail, hint=hint)


def _memory(model: Path, hardware: Hardware) -> Finding:
    if not model.exists():
        hint = "check the path; --model takes NAME=PATH"
        return Finding(check="memory", ok=False, detail=f"{model}: no such file", hint=hint)
    files = [model] if model.is_file() else [one for one in model.rglob("*") if one.is_file()]
    needed = sum(one.stat().st_size for one in files) + MODEL_OVERHEAD_BYTES
    usable = hardware.usable_memory_bytes
    known = f"{usable / 2**30:.1f} GiB can be taken here"
    there = known if usable else f"what can be taken here is {_unknown(hardware)}"
    detail = f"{model.name} needs about {needed / 2**30:.1f} GiB, {there}"
    if usable and needed > usable:
        hint = "take a smaller quantization (`allsorts fit` shows what fits), or close what uses the memory"
        return Finding(check="memory", ok=False, detail=detail, hint=hint)
    return Finding(check="memory", ok=True, detail=detail)


def _unknown(hardware: Hardware) -> str:
    told = hardware.details.get("memory", "")
    return told if told.startswith("unknown") else "unknown"


def _pinned(files: MembershipFiles | None) -> bytes:
    assert files is not None
    if not files.authority.exists():
        return b""
    return x509.load_pem_x509_certificate(files.authority.read_bytes()).fingerprint(hashes.SHA256())


@contextlib.contextmanager
def _kept_in_a_file(pem: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ca.pem"
        file.write_bytes(pem)
        yield file


def _node() -> str:
    return socket.gethostname().partition(".")[0]
