"""LiteLLM's proxy in front of the endpoint, asked over its OpenAI, Anthropic and Responses routes. Its pins are its
own, so it runs in the environment of the peers.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from anthropic import Anthropic
from openai import OpenAI

from tests.clients.table import MODEL

READY_S = 120.0
HELLO = [{"role": "user", "content": "Say hello."}]


@contextlib.contextmanager
def _proxy(url: str) -> Iterator[str]:
    if not Path(os.environ["LITELLM_PROXY"]).exists():
        raise RuntimeError(f"{os.environ['LITELLM_PROXY']} is missing: make env-peers")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
            f"      api_base: {url}/v1\n      api_key: none\n"
        )
        command = [os.environ["LITELLM_PROXY"], "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        proxy = subprocess.Popen(command, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{port}/health/liveliness", proxy)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(proxy.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                proxy.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proxy.pid, signal.SIGKILL)


def _wait(url: str, proxy: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up and proxy.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.5)
    raise RuntimeError("the proxy did not start")


def chat(url: str) -> None:
    """All three routes, whole and streamed: one proxy start for all of them."""
    with _proxy(url) as proxy:
        client = OpenAI(base_url=f"{proxy}/v1", api_key="none", max_retries=0, timeout=120)
        assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12).choices[0].message.content
        parts = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, stream=True)
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        assert client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=12).output
        spoken = Anthropic(base_url=proxy, api_key="none", max_retries=0, timeout=120)
        assert spoken.messages.create(model=MODEL, max_tokens=12, messages=HELLO).content
