"""Server-sent events from bytes as they come. Pure."""

MAX_LINE_BYTES = 2**20
"""An event longer than this is no completion chunk: the server is broken."""

DONE = b"[DONE]"


class SseError(Exception):
    """The stream is not what it says it is."""


class SseParser:
    """Feed bytes, get the data of whole events. Handles LF and CRLF, comments, names, and lines cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""

    def feed(self, part: bytes) -> list[tuple[bytes, bool]]:
        """Events completed by this part: their data, and whether they are named ``error``. Raises SseError for an event
        without an end.
        """
        lines = (self._rest + part).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise SseError(f"the server sent a line of more than {MAX_LINE_BYTES} bytes")
        events: list[tuple[bytes, bool]] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                self._end(events)
            elif line.startswith(b"data:"):
                self._add(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
        return events

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data)
        if self._size > MAX_LINE_BYTES:
            raise SseError(f"the server sent an event of more than {MAX_LINE_BYTES} bytes")

    def _end(self, events: list[tuple[bytes, bool]]) -> None:
        if self._data:
            events.append((b"\n".join(self._data), self._name == b"error"))
        self._data, self._size, self._name = [], 0, b""
