"""Calls whose values are no JSON: told of once they are complete, as the JSON that they mean. Pure."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from protos.contract.tools import ToolCallDelta
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.parsed import Parsed, first_of, held_back

Read = Callable[[str], Sequence[tuple[str, dict[str, Any]]]]
"""Calls (name, arguments) out of what stands between a pair of marks. Raises NoCall."""


class NoCall(ValueError):
    """It is written otherwise."""


class WholeCallParser:
    """Reads text and calls. Each of the form's ``starts`` has its end in the same place of ``ends``; ``skips`` are left
    out after a call. What cannot be read is text.
    """

    def __init__(self, form: Format, read: Read, make_id: Callable[[], str]) -> None:
        self._form = form
        self._ends = dict(zip(form.starts, form.ends, strict=True))
        self._read = read
        self._make_id = make_id
        self._rest = ""
        self._mark = ""  # that began the call under way
        self.calls = 0

    @property
    def complete_calls(self) -> int:
        """All of them."""
        return self.calls

    def feed(self, text: str) -> Parsed:
        """What is certain by now."""
        out = Parsed()
        self._rest += text
        while self._advance(out):
            pass
        return out

    def finish(self) -> Parsed:
        """What was held back; half a call is text."""
        held, self._rest = self._mark + self._rest, ""
        self._mark = ""
        return Parsed(text=held if not self.calls or held.strip() else "")

    def _advance(self, out: Parsed) -> bool:
        if self._mark:
            return self._in_call(out)
        marks = (*self._form.starts, *self._form.skips) if self.calls else self._form.starts
        at, mark = first_of(self._rest, marks)
        if at >= 0:
            self._say(out, self._rest[:at])
            self._rest = self._rest[at + len(mark) :]
            self._mark = mark if mark in self._ends else ""
            return True
        keep = held_back(self._rest, marks)
        self._say(out, self._rest[: len(self._rest) - keep])
        self._rest = self._rest[len(self._rest) - keep :]
        return False

    def _say(self, out: Parsed, text: str) -> None:
        out.text += text if not self.calls or text.strip() else ""

    def _in_call(self, out: Parsed) -> bool:
        end = self._ends[self._mark]
        at = self._rest.find(end)
        if at < 0:
            return False
        body, self._rest = self._rest[:at], self._rest[at + len(end) :]
        try:
            # a mark that names the function is part of the call, as its end is
            calls = self._read(f"{self._mark}{body}{end}" if self._mark.endswith("=") else body)
        except NoCall:
            out.text += self._mark + body + end
        else:
            for name, arguments in calls:
                self._tell(out, name, arguments)
        self._mark = ""
        return True

    def _tell(self, out: Parsed, name: str, arguments: dict[str, Any]) -> None:
        head = ToolCallDelta(index=self.calls, id=self._make_id(), name=name)
        out.calls = (*out.calls, head, ToolCallDelta(index=self.calls, arguments=json.dumps(arguments)))
        self.calls += 1
