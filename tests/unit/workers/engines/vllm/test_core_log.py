"""The reason a core process did not start is found in its log."""

from workers.engines.vllm.core_log import root_cause

LOG = """ERROR EngineCore failed to start.
Traceback (most recent call last):
  File "core.py", line 1, in run_engine_core
ValueError: To serve at least one request with the models's max seq len (8192), 3.0 GiB KV cache is needed.
WARNING something else
ERROR again
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_last_exception_that_says_something_is_the_cause() -> None:
    """The one that only points elsewhere is passed over."""
    assert root_cause(LOG).startswith("To serve at least one request")
    assert root_cause("INFO all is well\n") == ""
    assert root_cause("(EngineCore pid=1) torch.OutOfMemoryError: no memory") == "no memory"
