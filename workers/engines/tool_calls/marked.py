"""Calls between marks: the machine that all families share, told apart by a ``Format``."""

from collections.abc import Callable
from dataclasses import dataclass

from protos.contract.tools import ToolCallDelta
from workers.engines.tool_calls.json_call import SPACE, JsonCall, ValueEnd, ValueScanner
from workers.engines.tool_calls.parsed import Parsed, first_of, held_back

MAX_HEADER = 256
"""Characters before the arguments of a call that is written as a name and its arguments."""

FENCES = ("```json", "```")

BETWEEN = SPACE + ",;[]"
"""What may stand between two calls, and around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a family writes calls. ``starts``: marks that begin them; ``ends``: marks after which text may follow;
    ``skips``: marks of no meaning between them. ``named``: a call is a name and then its arguments, parted by one of
    ``parts``; ``numbered``: the name stands in ``functions.NAME:NUMBER``, the call's id. ``bare``: an answer that
    begins with a call has no mark. ``channels``: thoughts and the answer are marked as calls are.
    """

    name: str
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    named: bool = False
    numbered: bool = False
    parts: tuple[str, ...] = ()
    bare: bool = False
    channels: bool = False
    tag: str = ""  # of the parser, where it is not this one


class MarkedParser:
    """Reads text and calls. ``known``: the tools there are; what begins like a call of another one is text."""

    def __init__(self, form: Format, known: frozenset[str], make_id: Callable[[], str]) -> None:
        self._form = form
        self._known = known
        self._make_id = make_id
        self._marks = (*form.ends, *form.skips, *form.starts, *(FENCES if form.bare else ()))
        self._rest = ""  # not understood yet
        self._space = ""  # at the end of the text so far
        self._gap = ""  # space before the mark: part of the text where no call follows
        self._region = ""  # the mark that began the calls, and what came since; empty: text
        self._inside = False
        self._fresh = form.bare  # nothing but space so far
        self._call: JsonCall | None = None
        self._arguments: ValueScanner | None = None
        self._announced = False  # the call under way has been told of
        self.calls = 0
        self.complete_calls = 0
        self._out = Parsed()

    def feed(self, text: str) -> Parsed:
        """What is certain by now."""
        self._out = Parsed()
        self._rest += text
        while self._advance():
            pass
        return self._out

    def finish(self) -> Parsed:
        """What was held back; a call that is not complete stays so."""
        self._out = Parsed()
        held = self._rest
        if self._call is not None and not self._announced:
            held = self._call.raw + held
        if self._inside and not self.calls:
            self._space, held = self._gap, self._region + held
        elif self._inside:
            held = "" if self._announced or not held.strip(BETWEEN) or held.strip() in self._marks else held
        if held and not self._announced:
            self._say(held)
        if not self.calls:
            self._out.text += self._space
        self._rest, self._space = "", ""
        return self._out

    # -- the machine ---------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """One step; False when more text is needed."""
        if not self._rest:
            return False
        if self._arguments is not None:
            return self._in_arguments(self._arguments)
        if self._call is not None:
            return self._in_call(self._call)
        return self._between() if self._inside else self._in_text()

    def _in_text(self) -> bool:
        if self._fresh:
            return self._at_the_beginning()
        at, mark = first_of(self._rest, self._form.starts)
        if at >= 0:
            self._say(self._rest[:at])
            self._gap, self._space = self._space, ""
            self._rest = self._rest[at + len(mark) :]
            self._inside, self._region = True, mark
            return True
        keep = held_back(self._rest, self._form.starts)
        self._say(self._rest[: len(self._rest) - keep])
        self._rest = self._rest[len(self._rest) - keep :]
        return False

    def _at_the_beginning(self) -> bool:
        """Whether the answer is a call without a mark."""
        stripped = self._rest.lstrip(SPACE)
        if not stripped:
            return False
        if any(fence.startswith(stripped) and fence != stripped for fence in FENCES) or stripped == FENCES[1]:
            return False
        fence = next((one for one in FENCES if stripped.startswith(one)), "")
        body = stripped[len(fence) :].lstrip(SPACE)
        if fence and not body:
            return False
        self._fresh = False
        if body[0] in "{[":
            self._inside, self._region = True, self._rest[: len(self._rest) - len(body)]
            self._rest = body
        return True

    def _between(self) -> bool:
        form, marks = self._form, self._marks
        bare = self._rest.lstrip(SPACE)
        self._region += self._rest[: len(self._rest) - len(bare)]
        self._rest = bare
        if not bare or any(one.startswith(bare) and one != bare for one in marks):
            return False  # it may yet be a mark
        mark = max((one for one in marks if bare.startswith(one)), key=len, default="")
        if mark or bare[0] in BETWEEN:
            mark = mark or bare[0]
            self._rest = bare[len(mark) :]
            self._region += mark
            self._inside = mark not in form.ends
            return True
        if bare[0] == "{":
            self._call, self._announced = JsonCall(), False
            return True
        return self._header(bare) if form.named else self._not_a_call()

    def _header(self, bare: str) -> bool:
        at = bare.find("{")
        if at < 0:
            return self._not_a_call() if len(bare) > MAX_HEADER else False
        name = bare[:at]
        for part in self._form.parts:
            name = name.partition(part)[0]
        name = name.strip()
        if not name or any(space in name for space in SPACE):
            return self._not_a_call()
        self._rest = bare[at:]
        if self._form.numbered:
            self._announce(name.removeprefix("functions.").partition(":")[0], name)
        else:
            self._announce(name)
        self._arguments = ValueScanner()
        return True

    def _in_arguments(self, scanner: ValueScanner) -> bool:
        for count, character in enumerate(self._rest):
            if scanner.feed(character) is not ValueEnd.NOT_YET:
                self._pass(self._rest[: count + 1])
                self._rest = self._rest[count + 1 :]
                self._arguments = None
                self._completed()
                return True
        self._pass(self._rest)
        self._rest = ""
        return False

    def _in_call(self, call: JsonCall) -> bool:
        taken = call.feed(self._rest)
        self._rest = self._rest[taken:]
        unknown = self._form.bare and call.name is not None and self._known and call.name not in self._known
        if not call.is_call or (unknown and not self._announced):
            self._call = None
            self._rest = call.raw + self._rest
            return self._not_a_call()
        if call.name is not None and not self._announced:
            self._announce(call.name)
        if self._announced:
            self._pass(call.take())
        if call.done:
            self._call = None
            self._completed()
            return True
        return False

    def _not_a_call(self) -> bool:
        """What looked like the beginning of calls is text; after a call, what follows is."""
        if not self.calls:
            self._space, self._rest = self._gap, self._region + self._rest
        self._inside, self._region, self._fresh = False, "", False
        # The mark itself must not be found again.
        at, mark = first_of(self._rest, self._form.starts)
        if at == 0:
            self._say(mark)
            self._rest = self._rest[len(mark) :]
        elif self._rest and self._rest[0] in "{[":
            self._say(self._rest[0])
            self._rest = self._rest[1:]
        return True

    # -- output --------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if not text:
            return
        whole = self._space + text
        said = whole.rstrip(SPACE)
        self._space = whole[len(said) :]
        self._out.text += said

    def _announce(self, name: str, call_id: str = "") -> None:
        self._announced = True
        self._space = ""
        self._out.calls = (*self._out.calls, ToolCallDelta(index=self.calls, id=call_id or self._make_id(), name=name))
        self.calls += 1

    def _pass(self, arguments: str) -> None:
        if arguments:
            self._out.calls = (*self._out.calls, ToolCallDelta(index=self.calls - 1, arguments=arguments))

    def _completed(self) -> None:
        self._announced = False
        self._region = ""
        self.complete_calls += 1
