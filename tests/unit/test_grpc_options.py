"""gRPC takes an option of a name that it does not know without a word, and then does as it would have done."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from router.sessions import listeners
from workers.drafting import line, listener
from workers.session import channel

TABLES = {
    "the router's sessions": listeners.SESSION_OPTIONS,
    "the router's enrolments": listeners.ENROL_OPTIONS,
    "workers": channel.CHANNEL_OPTIONS,
    "drafts": listener.OPTIONS,
    "targets": line.OPTIONS,
}


@pytest.fixture(scope="module")
def library() -> bytes:
    """Where the names that gRPC knows stand."""
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("table", TABLES)
def test_grpc_knows_every_option(table: str, library: bytes) -> None:
    """An idle draft's line ended after a few pings: the option that allows them was misspelt."""
    assert [name for name, _ in TABLES[table] if name.encode() not in library] == []
