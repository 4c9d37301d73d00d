"""One call written as a JSON object, read character by character: its name once it is known, its arguments raw."""

import json
from enum import Enum, auto

NAMES = ("name", "function")
ARGUMENTS = ("arguments", "parameters", "input")
OTHERS = ("id", "type", "thought")
"""Keys that a call may have beside; any other first key tells that the object is no call."""

SPACE = " \t\r\n"


class ValueEnd(Enum):
    """Where a JSON value ends."""

    NOT_YET = auto()
    HERE = auto()  # with this character
    BEFORE = auto()  # this one is no part of it


class ValueScanner:
    """Finds the end of a JSON value; checks nothing else."""

    def __init__(self) -> None:
        self._depth = 0
        self._started = self._scalar = self._quoted = self._escaped = False

    def feed(self, character: str) -> ValueEnd:
        """The next character; the first is the value's own."""
        if not self._started:
            self._started = True
            self._quoted = character == '"'
            self._depth = int(character in "{[")
            self._scalar = not self._quoted and not self._depth
            return ValueEnd.NOT_YET
        if self._scalar:
            return ValueEnd.BEFORE if character in ",}] \t\r\n" else ValueEnd.NOT_YET
        if self._quoted:
            return self._in_string(character)
        if character == '"':
            self._quoted = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        return ValueEnd.HERE if self._depth == 0 and not self._quoted else ValueEnd.NOT_YET

    def _in_string(self, character: str) -> ValueEnd:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = False
            return ValueEnd.HERE if self._depth == 0 else ValueEnd.NOT_YET
        return ValueEnd.NOT_YET


class _At(Enum):
    START = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    DONE = auto()


class JsonCall:
    """Reads ``{"name": …, "arguments": {…}}``, keys in any order. ``name`` is None until it is known.

    ``take`` returns the arguments' text that is new since the name is known. ``is_call`` turns False once the object
    cannot be a call.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.raw = ""
        self.is_call = True
        self.done = False
        self._at = _At.START
        self._key = ""
        self._value = ""
        self._scanner = ValueScanner()
        self._arguments = ""  # not taken yet
        self._written = False  # as a string that holds JSON

    def feed(self, text: str) -> int:
        """Characters taken: all, unless the object ends before, or turns out to be no call."""
        for count, character in enumerate(text):
            self.raw += character
            self._step(character)
            if self.done or not self.is_call:
                return count + 1
        return len(text)

    def take(self) -> str:
        """New text of the arguments."""
        if self.name is None or (self._written and not self.done):
            return ""
        taken, self._arguments = self._arguments, ""
        if self._written and taken:
            try:
                taken = str(json.loads(taken))
            except ValueError:
                return taken
        return taken

    def _step(self, character: str) -> None:
        match self._at:
            case _At.START:
                self.is_call = character == "{"
                self._at = _At.KEY
            case _At.KEY if character == '"':
                self._at, self._key = _At.IN_KEY, ""
            case _At.KEY if character == "}":
                self._end()
            case _At.KEY:
                self.is_call = character in SPACE + ","
            case _At.IN_KEY if character == '"':
                self._at = _At.COLON
                self.is_call = self._key in (*NAMES, *ARGUMENTS, *OTHERS)
            case _At.IN_KEY:
                self._key += character
            case _At.COLON if character not in SPACE:
                self.is_call = character == ":"
                self._at = _At.VALUE
            case _At.VALUE if character not in SPACE:
                self._scanner, self._value, self._at = ValueScanner(), "", _At.IN_VALUE
                self._written = self._written or (self._key in ARGUMENTS and character == '"')
                self._in_value(character)
            case _At.IN_VALUE:
                self._in_value(character)
            case _:
                pass

    def _in_value(self, character: str) -> None:
        ended = self._scanner.feed(character)
        if ended is not ValueEnd.BEFORE:
            self._value += character
            if self._key in ARGUMENTS:
                self._arguments += character
        if ended is ValueEnd.NOT_YET:
            return
        if self._key in NAMES:
            self._name()
        self._at = _At.KEY
        if ended is ValueEnd.BEFORE:
            self._step(character)

    def _name(self) -> None:
        try:
            name = json.loads(self._value)
        except ValueError:
            name = None
        if isinstance(name, str) and name:
            self.name = name
        else:
            self.is_call = False

    def _end(self) -> None:
        self._at, self.done = _At.DONE, True
        self.is_call = self.name is not None
