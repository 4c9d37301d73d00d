"""What a process may hold: as much as its system allows, with room left for what is no client."""

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits import ENOUGH, RESERVED, most_connections

_RAISE = """
import resource, sys
from router.limits import raise_descriptor_limit
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(256, 1024), (1024, 1024), (1024, 4096)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    """Whatever the shell began with; never beyond what the system allows."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine allows fewer")
    done = subprocess.run(
        [sys.executable, "-c", _RAISE, str(soft), str(hard)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [str(min(hard, ENOUGH)), str(min(hard, ENOUGH)), str(hard)]


@given(descriptors=st.integers(16, 10**6))
def test_clients_leave_room_for_the_rest(descriptors: int) -> None:
    """Half of few, all but a reserve of many."""
    room = most_connections(descriptors)
    assert 0 < room < descriptors
    assert descriptors - room >= min(RESERVED, descriptors // 2)
