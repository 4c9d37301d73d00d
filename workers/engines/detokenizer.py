"""From token bytes to text that may be shown: whole characters, and nothing that may become a stop string. Pure."""

from dataclasses import dataclass, field


def _incomplete_tail(data: bytes) -> int:
    """Length of a UTF-8 character that has begun at the end of ``data`` and is not complete; 0 when none has."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        need = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return back if need > back else 0
    return 0


@dataclass(slots=True)
class Detokenizer:
    """Feed token bytes; get released text. After a stop string, ``stopped`` is set and nothing more comes.

    ``text_tokens`` counts tokens all of whose text has been released; a continuation may start after them.
    """

    stop: tuple[str, ...] = ()
    stopped: bool = False
    stopped_by: str = ""  # the stop string
    text_tokens: int = 0
    _bytes: bytes = b""  # of a character that is not complete
    _held: str = ""  # complete characters that may belong to a stop string
    _ends: list[int] = field(default_factory=list)  # for each unreleased token, bytes up to its end
    _fed: int = 0  # bytes fed so far
    _released: int = 0  # bytes released so far

    def feed(self, piece: bytes) -> str:
        """Add one token; returns the text that may be shown now."""
        self._fed += len(piece)
        self._ends.append(self._fed)
        data = self._bytes + piece
        tail = _incomplete_tail(data)
        whole, self._bytes = (data[:-tail], data[-tail:]) if tail else (data, b"")
        self._held += whole.decode("utf-8", "replace")
        return self._release(self._safe_length())

    def flush(self) -> str:
        """The end: everything held back comes out; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        self._held += self._bytes.decode("utf-8", "replace")
        self._bytes = b""
        return self._release(len(self._held))

    def _safe_length(self) -> int:
        """Characters of ``_held`` that may go out; also notices a complete stop string."""
        if not self.stop:
            return len(self._held)
        found = [(at, stop) for stop in self.stop if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.stopped_by = min(found)
            self.stopped = True
            return at
        longest = max(len(stop) for stop in self.stop) - 1
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            if any(stop.startswith(self._held[start:]) for stop in self.stop):
                return start
        return len(self._held)

    def _release(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        held_bytes = len(self._held.encode("utf-8", "replace")) + len(self._bytes)
        self._released = self._fed - held_bytes
        if self.stopped:
            return out
        done = 0
        while done < len(self._ends) and self._ends[done] <= self._released:
            done += 1
        if done:
            self.text_tokens += done
            del self._ends[:done]
        return out
