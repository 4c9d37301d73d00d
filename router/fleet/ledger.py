"""What one router replica has sent to one worker and the worker's load does not show yet.

Load reports are up to a report interval old. Without this, requests that arrive together all see the same idle
worker and herd there. A report carries the last command the worker had seen, so what it reflects is exact.
"""

from dataclasses import dataclass

from router.domain.snapshot import Inflight

_NOT_SENT = 1 << 62


@dataclass(slots=True)
class _Entry:
    prompt_tokens: int
    output_tokens: int
    sequence: int = _NOT_SENT


class Ledger:
    """Claims on a worker's capacity, from the decision until a load report reflects the command."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def reserve(self, request_id: str, prompt_tokens: int, output_tokens: int) -> None:
        """The request was placed here; its command is not sent yet."""
        self._entries[request_id] = _Entry(prompt_tokens, output_tokens)

    def sent(self, request_id: str, sequence: int) -> None:
        """The command went out under ``sequence``."""
        entry = self._entries.get(request_id)
        if entry is not None:
            entry.sequence = sequence

    def release(self, request_id: str) -> None:
        """The request ended, or was never sent. Unknown ids are ignored."""
        self._entries.pop(request_id, None)

    def reflected(self, last_command: int) -> None:
        """A load report that had seen all commands up to ``last_command``."""
        seen = [request_id for request_id, entry in self._entries.items() if entry.sequence <= last_command]
        for request_id in seen:
            del self._entries[request_id]

    def clear(self) -> None:
        """The session ended; nothing sent over it counts any more."""
        self._entries.clear()

    def totals(self) -> Inflight:
        """Sum of what is not reflected yet."""
        if not self._entries:
            return _NOTHING
        entries = self._entries.values()
        return Inflight(
            requests=len(entries),
            prompt_tokens=sum(entry.prompt_tokens for entry in entries),
            output_tokens=sum(entry.output_tokens for entry in entries),
        )


_NOTHING = Inflight()
