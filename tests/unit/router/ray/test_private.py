"""What is relied on of Serve's insides: fails when Ray changes it, before a replica listens where it should not."""

import inspect
from typing import get_args, get_type_hints

import pytest

from router.ray.private import BIND_PORT, HTTP_OPTIONS, keep_ports_at


def test_serve_still_binds_by_the_two_functions_that_are_replaced() -> None:
    """By these names, as names of that module, and with these arguments: see ``router/ray/private.py``."""
    from ray.serve._private import replica

    source = inspect.getsource(replica)
    assert f'{BIND_PORT}(self._server, "[::]:0")' in source
    assert f"{HTTP_OPTIONS}(" in source
    assert source.count("[::]") == 1, "it listens somewhere else, too"


def test_ray_still_tells_which_nodes_are_drained() -> None:
    """By this name, of the cluster that one is connected to: ids, and when each is over."""
    from ray._private import state

    assert get_args(get_type_hints(state.state.get_draining_nodes)["return"]) == (str, int)


def test_both_are_bound_to_the_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Serve's host for all nodes is."""
    from ray.serve._private import replica
    from ray.serve.config import HTTPOptions

    bound = []
    monkeypatch.setattr(replica, BIND_PORT, lambda _, where: bound.append(where) or 7)
    monkeypatch.setattr(replica, HTTP_OPTIONS, lambda options: options)
    keep_ports_at("10.0.0.7", http="10.0.0.7")
    assert getattr(replica, BIND_PORT)(None, "[::]:0") == 7
    assert bound == ["10.0.0.7:0"]
    found = getattr(replica, HTTP_OPTIONS)(HTTPOptions(host="0.0.0.0", port=31000))
    assert (found.host, found.port) == ("10.0.0.7", 31000)
