"""What the configuration makes of Serve's deployment; Serve itself checks the names."""

from typing import Any

import pytest

from router.config import RouterConfig, ServeConfig, load_config
from router.errors import ConfigError
from router.ray.app import Router, options
from router.ray.node_address import at_node, farthest, means_node
from router.ray.settings import HTTP_HOST, OWN_CLUSTER, REQUIRED, node_environment


def made(config: RouterConfig) -> Any:
    return Router.options(**options(config))


def test_one_replica_is_as_it_always_was() -> None:
    """Nothing about nodes, and ten seconds to end."""
    found = made(RouterConfig())
    assert options(RouterConfig()) == {"num_replicas": 1}
    assert found.num_replicas == 1


def test_several_replicas_run_where_they_may_and_take_their_time_to_go() -> None:
    """On nodes with the label, so many on each."""
    serve = ServeConfig(labels={"allsorts": "router"}, per_node=1, drain_s=90.0)
    found = made(RouterConfig(replicas=2, serve=serve))
    assert found.num_replicas == 2
    assert found.ray_actor_options["label_selector"] == {"allsorts": "router"}
    asked = options(RouterConfig(replicas=2, serve=serve))
    assert (asked["max_replicas_per_node"], asked["graceful_shutdown_timeout_s"]) == (1, 90.0)


def test_replicas_come_and_go_by_load() -> None:
    """Between as many as are asked for and the most."""
    asked = options(RouterConfig(replicas=2, serve=ServeConfig(replicas_most=6, requests_each=50)))
    scaling = asked["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 6, 50)
    assert "num_replicas" not in asked
    made(RouterConfig(replicas=2, serve=ServeConfig(replicas_most=6)))


def test_fewer_at_most_than_always_is_refused() -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError, match=r"serve.replicas_most' is 2: at least 'replicas', 3"):
        load_config(None, {"replicas": 3, "serve": {"replicas_most": 2}})


def test_a_node_listens_where_ray_knows_it_and_only_where_that_was_asked_for() -> None:
    """Either host, both, or none."""
    config = load_config(None, {"http": {"host": "node"}, "grpc": {"host": "node"}})
    assert means_node(config)
    found = at_node(config, "10.0.0.7")
    assert (found.http.host, found.grpc.host) == ("10.0.0.7", "10.0.0.7")
    assert not means_node(found)
    assert at_node(RouterConfig(), "10.0.0.7") == RouterConfig()


@pytest.mark.parametrize(
    ("addresses", "decides"),
    [(["127.0.1.1", "10.0.0.7"], "10.0.0.7"), (["127.0.1.2", "127.0.1.1"], "127.0.1.1"), ([], "127.0.0.1")],
)
def test_one_node_beyond_this_machine_decides_for_all(addresses: list[str], decides: str) -> None:
    """Who may come in there may come in."""
    assert farthest(addresses) == decides


def test_a_node_of_a_cluster_is_told_its_address_and_may_have_siblings(tmp_path: Any) -> None:
    """What keeps a cluster of one machine to itself is not for it."""
    found = node_environment(work_dir=tmp_path, address="10.0.0.7", connections=1000)
    assert found[HTTP_HOST] == "10.0.0.7"
    assert REQUIRED.items() <= found.items()
    assert OWN_CLUSTER not in found
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in found
    assert not found["ALLSORTS_LOOPBACK"]
