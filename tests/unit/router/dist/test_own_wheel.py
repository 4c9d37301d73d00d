"""The head's wheel: what it holds, and that it is the same wherever it is made."""

import base64
import csv
import email
import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from router.dist.installer import installer
from router.dist.own_metadata import own_metadata
from router.dist.own_wheel import own_wheel, pack
from tests.conftest import REPOSITORY

ABOUT = {"METADATA": "Metadata-Version: 2.1\nName: allsorts\nVersion: 1.2\n", "WHEEL": "Wheel-Version: 1.0\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for package in ("loadtest", "protos", "router", "workers"):
        (tmp_path / package / "__pycache__").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"x")
        (tmp_path / package / "README.md").write_text("for readers of the source")
    (tmp_path / "workers" / "a.lock").write_text("x==1")
    return tmp_path


def test_the_same_files_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    """Replicas on several machines hand out one hash; a changed line is another one."""
    first = pack(root, "1.2", ABOUT)
    (root / "router" / "__init__.py").touch()
    assert pack(root, "1.2", ABOUT) == first
    assert first.name == "allsorts-1.2-py3-none-any.whl"
    (root / "router" / "__init__.py").write_text("x = 1\n")
    assert pack(root, "1.2", ABOUT).sha256 != first.sha256


def test_every_member_is_recorded_with_its_hash_and_size(root: Path) -> None:
    """As installers check them; nothing compiled and nothing for readers goes along."""
    with zipfile.ZipFile(io.BytesIO(pack(root, "1.2", ABOUT).data)) as archive:
        names = set(archive.namelist())
        record = list(csv.reader(archive.read("allsorts-1.2.dist-info/RECORD").decode().splitlines()))
    assert {row[0] for row in record} == names
    assert "workers/a.lock" in names
    assert not [one for one in names if "__pycache__" in one or one.endswith(".md")]
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x==1").digest()).rstrip(b"=").decode()
    assert [f"sha256={digest}", "4"] in [row[1:] for row in record]


def test_the_head_hands_out_what_runs_with_all_that_it_reads() -> None:
    """Locks, stubs' sources, profiles and scripts are in it; the installer carries its hash."""
    wheel = own_wheel()
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert b"--hash=sha256:" in archive.read("protos/contract/locks/base.lock")
    for one in ("router/dist/bare_machine.py", "router/ray/haproxy.sh", "protos/allsorts/v1/fleet_pb2.py"):
        assert one in names
    assert f'WHEEL_SHA256 = "{wheel.sha256}"'.encode() in installer(wheel)
    assert b'"@' not in installer(wheel)


def test_a_checkout_says_of_itself_what_its_build_system_would(tmp_path: Path) -> None:
    """Versions, what each extra needs under which marker, commands: as they stand in pyproject.toml now."""
    version, about = own_metadata(REPOSITORY)
    told = email.message_from_string(about["METADATA"])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (told["Version"], told["Name"]) == (version, "allsorts")
    needs = {str(Requirement(one)) for one in told.get_all("Requires-Dist") or []}
    assert {str(Requirement(one)) for one in project["dependencies"]} <= needs
    uvloop = next(Requirement(one) for one in needs if one.startswith("uvloop"))
    assert uvloop.marker is not None
    assert uvloop.marker.evaluate({"extra": "router", "sys_platform": "linux"})
    assert not uvloop.marker.evaluate({"extra": "router", "sys_platform": "win32"})
    assert not uvloop.marker.evaluate({"extra": "", "sys_platform": "linux"})
    assert "join = workers.cli.join:join" in about["entry_points.txt"].splitlines()
