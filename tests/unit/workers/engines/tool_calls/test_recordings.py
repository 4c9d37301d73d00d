"""Rule: each family's calls are found, whole and in order, wherever the stream is cut; what is no call stays text."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.tools import Tool, ToolCallDelta, ToolChoice, Tooling
from tests.unit.workers.engines.tool_calls.recordings import RECORDINGS, Recording
from workers.engines.tool_calls.formats import FORMATS
from workers.engines.tool_calls.output import Channels
from workers.engines.tool_calls.thoughts import MARKS, ThoughtMarks

PLAN = Tool(
    name="plan", parameters='{"properties": {"note": {"type": "string"}, "code": {"type": "string"}, "stops": {}}}'
)
TOOLS = Tooling(tools=(Tool(name="weather"), Tool(name="clock"), PLAN))


def channels(form: str, thoughts: ThoughtMarks | None = None, *, opened: bool = False, **more: Any) -> Channels:
    return Channels(form=FORMATS[form], tooling=more.get("tooling", TOOLS), thoughts=thoughts, opened=opened)


class Read:
    """Everything that was told."""

    def __init__(self, made: Channels, pieces: Iterable[str]) -> None:
        told = [made.feed(piece) for piece in pieces]
        self.before_the_end = [one for part in told for one in part.calls]
        told.append(made.finish())
        self.text = "".join(one.text for one in told)
        self.reasoning = "".join(one.reasoning for one in told)
        self.deltas: list[ToolCallDelta] = [call for one in told for call in one.calls]
        self.channels = made

    @property
    def calls(self) -> tuple[tuple[str, Any], ...]:
        found = []
        for index in range(len({one.index for one in self.deltas})):
            mine = [one for one in self.deltas if one.index == index]
            assert [bool(one.name) for one in mine] == [True] + [False] * (len(mine) - 1)
            assert [bool(one.id) for one in mine] == [bool(one.name) for one in mine]
            found.append((mine[0].name, json.loads("".join(one.arguments for one in mine))))
        return tuple(found)


def cut_everywhere(text: str) -> Iterable[list[str]]:
    """Whole, into two at every place, and into single characters."""
    yield [text]
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]
    yield list(text)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: f"{one.form}-{RECORDINGS.index(one)}")
def test_a_recording_is_read_alike_wherever_it_is_cut(recording: Recording) -> None:
    for pieces in cut_everywhere(recording.written):
        read = Read(channels(recording.form), pieces)
        assert read.calls == recording.calls, pieces
        assert (read.text, read.reasoning) == (recording.text, recording.reasoning), pieces
        assert read.channels.called is bool(recording.calls)


@pytest.mark.parametrize("recording", [one for one in RECORDINGS if one.calls], ids=lambda one: one.form)
def test_an_answer_goes_on_in_the_middle_of_a_call(recording: Recording) -> None:
    """A parser that reads what was sent tells the rest, and nothing twice."""
    whole = Read(channels(recording.form), list(recording.written))
    for at in range(1, len(recording.written)):
        first, second = channels(recording.form), channels(recording.form)
        told = first.feed(recording.written[:at])
        second.feed(recording.written[:at])
        rest = Read(second, [recording.written[at:]])
        assert (told.text + rest.text, told.reasoning + rest.reasoning) == (whole.text, whole.reasoning)
        deltas = (*told.calls, *rest.deltas)
        for index in range(len(recording.calls)):
            mine = [one for one in deltas if one.index == index]
            assert json.loads("".join(one.arguments for one in mine)) == recording.calls[index][1]
            assert [one.name for one in mine if one.name] == [recording.calls[index][0]]


@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if not form.tag or form.channels])
def test_arguments_stream_as_they_are_written(form: str) -> None:
    """Piece by piece, and not all at the end."""
    recording = next(one for one in RECORDINGS if one.form == form and one.calls)
    read = Read(channels(form), list(recording.written))
    assert len([one for one in read.before_the_end if one.arguments]) > 10


@pytest.mark.parametrize("form", FORMATS)
@given(
    text=st.text(alphabet=st.sampled_from('<>[](){}"`|:,=/\\ \n_toolcabegisndf\uff5c\u2581'), max_size=60),
    data=st.data(),
)
def test_no_text_breaks_a_parser_or_is_lost(form: str, text: str, data: st.DataObject) -> None:
    """Cut anywhere it says the same; without calls, everything that is not space at the end is told."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    whole, cut = Read(channels(form), [text]), Read(channels(form), pieces)
    assert whole.text == cut.text
    assert [(one.index, one.name) for one in whole.deltas if one.name] == [
        (one.index, one.name) for one in cut.deltas if one.name
    ]
    if not whole.deltas:
        assert whole.text == text


@pytest.mark.parametrize("marks", MARKS, ids=lambda one: one.open)
@pytest.mark.parametrize("opened", [True, False])
def test_thoughts_stand_apart_wherever_the_stream_is_cut(marks: ThoughtMarks, opened: bool) -> None:
    """Before text and before a call; the prompt may have opened them."""
    written = f"{'' if opened else marks.open}\nWell, 2 < 3.\n{marks.close}\n\nIt is four."
    for pieces in cut_everywhere(written):
        read = Read(channels("hermes", marks, opened=opened), pieces)
        assert (read.reasoning, read.text) == ("Well, 2 < 3.", "It is four."), pieces
    called = (
        f"{'' if opened else marks.open}Hm.{marks.close}<tool_call>\n"
        '{"name": "clock", "arguments": {}}\n</tool_call>'
    )
    for pieces in cut_everywhere(called):
        read = Read(channels("hermes", marks, opened=opened), pieces)
        assert (read.reasoning, read.text, read.calls) == ("Hm.", "", (("clock", {}),)), pieces


def test_an_answer_without_thoughts_is_text_though_the_model_thinks_at_times() -> None:
    """Its first word decides."""
    for pieces in cut_everywhere("<thinly> spread"):
        assert Read(channels("hermes", MARKS[0]), pieces).text == "<thinly> spread"
    assert Read(channels("hermes", MARKS[0], opened=True), ["never closed"]).reasoning == "never closed"


def test_tools_that_must_not_be_called_leave_text_alone() -> None:
    """And without any there is nothing to be told apart."""
    written = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
    none = Tooling(tools=TOOLS.tools, choice=ToolChoice.NONE)
    assert Read(channels("hermes", tooling=none), [written]).text == written
    assert not channels("hermes", tooling=none).needed
    assert channels("hermes", MARKS[0], tooling=None).needed


def test_one_call_at_most_is_complete_with_the_first() -> None:
    """parallel_tool_calls: false."""
    made = channels("hermes", tooling=Tooling(tools=TOOLS.tools, single=True))
    made.feed('<tool_call>{"name": "clock", "arguments": {')
    assert not made.complete
    made.feed("}}")
    assert made.complete


def test_a_family_that_marks_its_answer_is_read_without_tools_too() -> None:
    """A call of a tool that must not be called is the model's own affair."""
    written = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    for tooling in (None, Tooling(tools=TOOLS.tools, choice=ToolChoice.NONE)):
        made = channels("harmony", tooling=tooling)
        assert made.needed
        read = Read(made, list(written))
        assert (read.reasoning, read.text, read.calls) == ("Hm.", "Yes.", ())
        called = Read(channels("harmony", tooling=tooling), ["<|channel|>x to=functions.clock<|message|>{}<|call|>"])
        assert (called.reasoning, called.calls) == ("{}", ())
