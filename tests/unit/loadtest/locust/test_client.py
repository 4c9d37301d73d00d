"""The load test's connections, against a server in the same process."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer

from loadtest.locust.endpoint.client import Endpoint

ANSWER = b'data: {"choices":[{"delta":{"content":"Yes."}}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


class Server:
    """Answers so many requests on each connection, and closes over the next."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.go = Event()
        self.asked: Counter[int] = Counter()  # requests by connection
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.stop()

    def _serve(self, sock: Any, _address: object) -> None:
        number, reader = len(self.asked), sock.makefile("rb")
        self.asked[number] = 0
        while True:
            length = 0
            while (line := reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not reader.read(length):
                return
            self.asked[number] += 1
            if self.asked[number] > self.answers:
                return
            self.go.wait()
            sock.sendall(HEAD + ANSWER)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for one in made:
        one.close()


def test_a_request_outlives_all_kept_connections_that_are_closed_over_it(servers: list[Server]) -> None:
    """A server that stood still closes everything it kept, also over what it was just asked."""
    server = Server(answers=1)
    servers.append(server)
    endpoint = Endpoint(server.url, deadline_s=60.0)
    first = [gevent.spawn(endpoint.stream, "/chat/completions", {}) for _ in range(5)]
    while sum(server.asked.values()) < 5:
        gevent.sleep(0.001)
    server.go.set()
    gevent.joinall(first, timeout=60.0)
    assert [one.value.error for one in first] == [""] * 5
    heard = endpoint.stream("/chat/completions", {})
    assert (heard.error, heard.text) == ("", "Yes.")
    assert sorted(server.asked.values()) == [1, 2, 2, 2, 2, 2]  # five tried, one new
    assert heard.written is not None
    assert heard.sent <= heard.written <= heard.at[0]
    endpoint.close()


def test_a_new_connection_that_is_closed_is_a_failure(servers: list[Server]) -> None:
    """Once: a server that closes over everything is not asked for ever."""
    server = Server(answers=0)
    servers.append(server)
    heard = Endpoint(server.url, deadline_s=60.0).stream("/chat/completions", {})
    assert heard.code == "connection"
    assert dict(server.asked) == {0: 1}


def test_nobody_there_is_a_failure_that_was_never_written(servers: list[Server]) -> None:
    server = Server(answers=1)
    server.close()
    heard = Endpoint(server.url, deadline_s=60.0).stream("/chat/completions", {})
    assert (heard.code, heard.written) == ("connection", None)
