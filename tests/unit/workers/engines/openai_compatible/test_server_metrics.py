"""A server's own figures of its load."""

import pytest

from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_metrics import ServerLoad, load_told

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_running{engine="0",model_name="other"} 99.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""
SGLANG = (
    'sglang:num_running_reqs{model_name="m"} 2.0\nsglang:num_queue_reqs{model_name="m"} 1.0\nsglang:token_usage 0.5\n'
)
LLAMA = "llamacpp:requests_processing 2\nllamacpp:requests_deferred 5\n"


@pytest.mark.parametrize(
    ("text", "flavor", "load"),
    [
        (VLLM, Flavor.VLLM, ServerLoad(running=16, waiting=3, kv_used=0.25)),
        (SGLANG, Flavor.SGLANG, ServerLoad(running=2, waiting=1, kv_used=0.5)),
        (LLAMA, Flavor.LLAMA_SERVER, ServerLoad(running=2, waiting=5)),
        (LLAMA, Flavor.VLLM, None),
        (LLAMA, Flavor.OLLAMA, None),
        ("", Flavor.VLLM, None),
        ("<html>", Flavor.SGLANG, None),
        ("vllm:num_requests_running NaN\n", Flavor.VLLM, None),
        ("vllm:num_requests_running many\n", Flavor.VLLM, None),
        ("vllm:num_requests_running 1e300\n", Flavor.VLLM, None),
        (
            "vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 7\n",
            Flavor.VLLM,
            ServerLoad(running=1, waiting=0, kv_used=1.0),
        ),
    ],
)
def test_the_figures_of_one_model_are_read_from_the_page(text: str, flavor: Flavor, load: ServerLoad | None) -> None:
    """Several engines of one server add up; what is no number is not there."""
    assert load_told(text, flavor, "m") == load


def test_ones_own_requests_are_not_others() -> None:
    assert ServerLoad(running=8, waiting=4).without(mine=12) == ServerLoad(running=0, waiting=0)
    assert ServerLoad(running=8, waiting=0).without(mine=3) == ServerLoad(running=5, waiting=0)
    assert ServerLoad(running=0, waiting=0).without(mine=3) == ServerLoad(running=0, waiting=0)
