"""What is said of a cluster's nodes: each thing that is wrong, with its node and what to do."""

from dataclasses import replace

import pytest

from router.ray.doctor import ClusterFinding, NodeReport, judge, report

GOOD = NodeReport(
    address="10.0.0.1", python="3.11.7", ray="2.60.0", allsorts="0.1.0", token=True, http_host="10.0.0.1", tls=True
)
OTHER = replace(GOOD, address="10.0.0.2", http_host="10.0.0.2")


def failed(*nodes: NodeReport) -> list[ClusterFinding]:
    return [one for one in judge(nodes) if not one.ok]


def test_a_cluster_that_is_as_it_should_be_passes_every_check() -> None:
    """Nodes, versions, ports, token."""
    assert failed(GOOD, OTHER) == []
    assert {one.check for one in judge([GOOD, OTHER])} == {"node", "versions", "ports", "token"}


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"missing": ("RAY_SERVE_ENABLE_HA_PROXY=1",)}, "node", "10.0.0.2: lacks RAY_SERVE_ENABLE_HA_PROXY=1"),
        ({"haproxy": False}, "node", "10.0.0.2: lacks the HAProxy that ray-env makes"),
        ({"python": "3.11.8"}, "versions", "python 3.11.7, 3.11.8"),
        ({"ray": "2.61.0"}, "versions", "ray 2.60.0, 2.61.0"),
        ({"allsorts": "0.0.9"}, "versions", "allsorts 0.0.9, 0.1.0"),
        ({"unreachable": ("10.0.0.1:6380",)}, "ports", "10.0.0.2: does not reach 10.0.0.1:6380"),
        ({"token": False}, "token", "whoever reaches 10.0.0.2 can run code there: no token is asked for"),
        ({"tls_lacks": ("RAY_TLS_CA_CERT",)}, "tls", "10.0.0.2: TLS is on without RAY_TLS_CA_CERT"),
        ({"silent": "the node died"}, "node", "10.0.0.2: the node died"),
    ],
)
def test_each_thing_that_is_wrong_is_said_with_its_node(change: dict[str, object], check: str, says: str) -> None:
    """One line, and what to do."""
    (found,) = failed(GOOD, replace(OTHER, **change))  # type: ignore[arg-type]
    assert (found.check, found.detail) == (check, says)
    assert found.hint


def test_on_this_machine_alone_no_token_is_needed() -> None:
    """Nobody else reaches it."""
    assert failed(replace(GOOD, address="127.0.0.1", token=False)) == []


def test_a_node_looks_at_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own environment, and a port that nobody listens on."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    found = report("127.0.0.1", ["127.0.0.1:1"])
    assert found.token
    assert found.unreachable == ("127.0.0.1:1",)
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in found.missing
