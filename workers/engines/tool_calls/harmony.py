"""gpt-oss' own format (Harmony): every message says its channel and whom it is for, thoughts and calls alike. Pure.

``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json
<|message|>{…}<|call|>``, and ``final`` for the answer.
"""

import re
from collections.abc import Callable
from enum import Enum, auto

from protos.contract.tools import ToolCallDelta
from workers.engines.tool_calls.json_call import SPACE
from workers.engines.tool_calls.marked import Format
from workers.engines.tool_calls.parsed import Parsed, first_of, held_back

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
MAX_HEADER = 256
"""Characters before a message; where there are more, it is none."""

_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


class _In(Enum):
    BEGINNING = auto()
    HEADER = auto()
    TEXT = auto()
    THOUGHTS = auto()
    CALL = auto()
    PLAIN = auto()  # an answer without any of it: what is kept to a grammar


class HarmonyParser:
    """Reads text, thoughts and calls. Calls of tools that are not ``known`` are the model's own affair: thoughts."""

    def __init__(self, form: Format, known: frozenset[str], make_id: Callable[[], str]) -> None:
        self._ends = form.ends
        self._known = known
        self._make_id = make_id
        self._rest = ""
        self._in = _In.BEGINNING
        self.calls = 0
        self.complete_calls = 0

    def feed(self, text: str) -> Parsed:
        """What is certain by now."""
        out = Parsed()
        self._rest += text
        while self._advance(out):
            pass
        return out

    def finish(self) -> Parsed:
        """What was held back; a header without its message says nothing."""
        out = Parsed()
        held, self._rest = self._rest, ""
        if self._in is _In.HEADER and not (CHANNEL in held or START in held):
            self._in = _In.TEXT if not self.calls else _In.HEADER
        if self._in is _In.BEGINNING:
            self._in = _In.PLAIN
        self._tell(out, held)
        if self._in is _In.CALL:
            self.complete_calls = self.calls
        return out

    def _advance(self, out: Parsed) -> bool:
        if not self._rest:
            return False
        if self._in is _In.BEGINNING:
            return self._begin()
        if self._in is _In.HEADER:
            return self._header(out)
        if self._in is _In.PLAIN:
            self._tell(out, self._rest)
            self._rest = ""
            return False
        at, mark = first_of(self._rest, self._ends)
        if at < 0:
            keep = held_back(self._rest, self._ends)
            self._tell(out, self._rest[: len(self._rest) - keep])
            self._rest = self._rest[len(self._rest) - keep :]
            return False
        self._tell(out, self._rest[:at])
        self._rest = self._rest[at + len(mark) :]
        if self._in is _In.CALL:
            self.complete_calls += 1
        self._in = _In.HEADER
        return True

    def _begin(self) -> bool:
        """Behind the prompt's ``<|start|>assistant``: a recipient, a channel, or a new start; else it is plain."""
        text = self._rest.lstrip(SPACE)
        begins = (START, CHANNEL, "to=")
        if any(text.startswith(one) for one in begins):
            self._in = _In.HEADER
            return True
        if any(one.startswith(text) for one in begins):
            return False
        self._in = _In.PLAIN
        return True

    def _header(self, out: Parsed) -> bool:
        head, mark, rest = self._rest.partition(MESSAGE)
        if not mark:
            if len(head) > MAX_HEADER:
                self._in = _In.TEXT
                return True
            return False
        self._rest = rest
        channel, recipient = _CHANNEL.search(head), _RECIPIENT.search(head)
        if recipient is not None and recipient[1] in self._known:
            self._in = _In.CALL
            call = ToolCallDelta(index=self.calls, id=self._make_id(), name=recipient[1])
            out.calls = (*out.calls, call)
            self.calls += 1
        elif recipient is not None or (channel is not None and channel[1] == "analysis"):
            self._in = _In.THOUGHTS
        else:
            self._in = _In.TEXT
        return True

    def _tell(self, out: Parsed, text: str) -> None:
        if not text:
            return
        if self._in is _In.CALL:
            out.calls = (*out.calls, ToolCallDelta(index=self.calls - 1, arguments=text))
        elif self._in is _In.THOUGHTS:
            out.reasoning += text
        elif self._in in (_In.TEXT, _In.PLAIN):
            out.text += text
