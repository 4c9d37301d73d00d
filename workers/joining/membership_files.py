"""What a worker keeps of a fleet it joined: the CA, its key and certificate, who it is. Private to its owner.

One folder per fleet and node name, ``STATE_DIR/pools/<CA's hash>-<node>/``; files 0600, folders 0700. Each file is
replaced as a whole, so that a power cut leaves the old one or the new one.
"""

import contextlib
import fcntl
import ipaddress
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos.contract.joining.certificates import SERVER_NAME
from workers.session.channel import ChannelSecurity

if sys.platform == "darwin":  # struct flock: start, length, process, kind, whence
    _ASKED, _WHOLE_FILE, _KIND_AT, _PROCESS_AT = struct.Struct("qqihh"), (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET), 3, 2
else:  # kind, whence, start, length, process
    _ASKED, _WHOLE_FILE, _KIND_AT, _PROCESS_AT = struct.Struct("hhqqi4x"), (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0), 0, 4


class MembershipRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who this machine is in the fleet."""

    enrol_address: str
    node: str
    worker_id: str
    replicas: tuple[str, ...]  # host:port
    expires_at_unix_s: float
    serves_at: tuple[str, ...] = ()  # addresses in its certificate, of a draft; others serve nobody


class MembershipFiles:
    """One fleet's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        self._membership = folder / "membership.json"
        self._lock = folder / "lock"  # a POSIX lock: it ends with its process, and the kernel says whose it is

    @classmethod
    def of(cls, state_dir: Path, authority_sha256: bytes, node: str) -> "MembershipFiles":
        """The folder of this fleet and node; it may not exist yet."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", node)[:80]
        return cls(state_dir / "pools" / f"{authority_sha256.hex()[:16]}-{name}")

    @classmethod
    def find(cls, state_dir: Path, enrol_address: str, node: str) -> "MembershipFiles | None":
        """The folder of the fleet that was joined at this address; None when there is none."""
        return next((files for files, known in cls.joined_at(state_dir, enrol_address) if known.node == node), None)

    @classmethod
    def joined_at(cls, state_dir: Path, enrol_address: str) -> list[tuple["MembershipFiles", MembershipRecord]]:
        """What was joined at this address, under whatever names, by folder."""
        folders = (cls(file.parent) for file in sorted((state_dir / "pools").glob("*/membership.json")))
        told = ((files, files.membership()) for files in folders)
        return [(files, known) for files, known in told if known is not None and known.enrol_address == enrol_address]

    def membership(self) -> MembershipRecord | None:
        """Who this machine is; None before it joined, or when the file cannot be understood."""
        try:
            return msgspec.json.decode(self._membership.read_bytes(), type=MembershipRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def security(self) -> ChannelSecurity:
        """For sessions: mutual TLS against the pinned CA."""
        return ChannelSecurity(
            authority=self.authority, certificate=self.certificate, key=self.key, server_name=SERVER_NAME
        )

    def certificate_request(self, serves_at: tuple[str, ...] = ()) -> bytes:
        """A request signed with this machine's key, PEM; the key is made when there is none. ``serves_at``: IP
        addresses at which it will serve as well as ask.
        """
        key = self._load_or_make_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "allsorts worker")])  # the router names it
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        if serves_at:
            names = [x509.IPAddress(ipaddress.ip_address(one)) for one in serves_at]
            uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            request = request.add_extension(x509.SubjectAlternativeName(names), critical=False)
            request = request.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def keep_authority(self, pem: bytes) -> None:
        """Pin the CA."""
        self._write(self.authority, pem)

    def keep(self, certificate_pem: bytes, membership: MembershipRecord) -> None:
        """Keep what enrolment or renewal gave."""
        self._write(self.certificate, certificate_pem)
        self._write(self._membership, msgspec.json.encode(membership))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While one process serves under this identity, no other may. Raises OSError."""
        with self._lock.open("a") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OSError(
                    "another process serves here under this name already; stop it, or give this one a name of its "
                    "own with --node"
                ) from None
            yield

    def holder(self) -> int | None:
        """The process that serves under this identity, as the kernel knows it; None: none, or this very process.

        0 or less: one that this process cannot see (another container).
        """
        try:
            file = self._lock.open("a")
        except OSError:
            return None
        with file:
            answer = _ASKED.unpack(fcntl.fcntl(file, fcntl.F_GETLK, _ASKED.pack(*_WHOLE_FILE)))
        kind, process_id = answer[_KIND_AT], answer[_PROCESS_AT]
        return None if kind == fcntl.F_UNLCK else int(process_id)

    def _load_or_make_key(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        except FileNotFoundError:
            fresh = ec.generate_private_key(ec.SECP256R1())
            encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            self._write(self.key, fresh.private_bytes(encoding, form, serialization.NoEncryption()))
            return fresh
        except ValueError:
            raise OSError(f"{self.key}: not a key any more; remove its folder and join with a new token") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OSError(f"{self.key}: not a key this program made; remove its folder and join with a new token")
        return key

    def _write(self, path: Path, content: bytes) -> None:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = path.with_suffix(".new")
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
