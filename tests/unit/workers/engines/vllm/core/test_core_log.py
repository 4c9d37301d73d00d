"""The reason a core process did not start is found in its log, and said plainly."""

import pytest

from workers.engines.vllm.core.core_log import plainly, root_cause

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
    assert root_cause("RuntimeError: cancelled\n") == "", "what vLLM says of a core that was killed by its own code"
    assert root_cause("(EngineCore pid=1) torch.OutOfMemoryError: no memory") == "no memory"


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (
            "Unknown quantization method: bitsandbytes. Must be one of ['awq', 'auto_awq', 'fp8'].",
            "unsupported quantization awq: Unknown quantization method: bitsandbytes; this vLLM",
        ),
        (
            "torch.float16 is not supported for quantization method mxfp4. Supported dtypes: [torch.bfloat16]",
            "unsupported quantization awq: torch.float16 is not supported for quantization method mxfp4; this vLLM",
        ),
        (
            "Worker failed with error 'can't allocate memory: 6440878080 bytes', please check the stack trace above",
            "not enough memory: can't allocate memory: 6440878080 bytes; lower kv_gib",
        ),
        (
            "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -9}",
            "not enough memory: Engine core initialization failed",
        ),
        ("'_C' object has no attribute 'silu_and_mul_quant'", "vLLM cannot load it: '_C' object has no attribute"),
    ],
)
def test_a_reason_is_one_line_that_begins_with_its_kind(reason: str, says: str) -> None:
    """Unsupported quantization and lack of memory are told apart from the rest, without vLLM's long lists."""
    line = plainly(reason, "awq")
    assert line.startswith(says)
    assert "Must be one of" not in line
    assert "stack trace" not in line
