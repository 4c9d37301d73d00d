"""The HTTP server that Serve configures inside a replica takes our connection."""

import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from router.http.streaming.direct_writes import DirectConnection
from router.ray.app import write_directly


def test_a_server_that_is_told_nothing_of_protocols_offers_direct_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Serve makes it: by uvicorn's own default."""
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    write_directly()
    config = uvicorn.Config(lambda: None, factory=True, lifespan="off", log_config=None, log_level=None)
    config.load()
    assert getattr(config.http_protocol_class, "func", None) is DirectConnection
