"""Server-sent events from bytes as they come. Pure."""

from collections.abc import Iterator

MAX_LINE_BYTES = 2**20
"""An event longer than this is no completion chunk: the server is broken."""

DONE = "[DONE]"


class SseError(Exception):
    """The stream is not what it says it is."""


class SseParser:
    """Feed bytes, get the data of whole events. Handles LF and CRLF, comments, and lines cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Events completed by this chunk. Raises SseError for an endless line or broken UTF-8."""
        self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise SseError(f"the server sent a line of more than {MAX_LINE_BYTES} bytes")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))

    def _line(self, line: bytes) -> Iterator[str]:
        if not line:
            if self._data:
                yield "\n".join(self._data)
                self._data = []
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            try:
                self._data.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError as error:
                raise SseError(f"the server sent broken UTF-8: {error}") from None
