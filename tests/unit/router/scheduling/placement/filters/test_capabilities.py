"""Rule: a request goes only where everything it needs can be done, and whoever asks is told what nobody has."""

from dataclasses import replace
from typing import Any

import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.ids import RequestId
from protos.contract.request import EmbeddingInputs, Sampling
from protos.contract.tools import Tool, ToolChoice, Tooling
from protos.contract.worker import Capabilities, InstanceState
from router.dispatch.errors_of import error_of
from router.domain.placement import Exclusions, FilterName, NoCandidate
from router.domain.request import RequestKind
from router.scheduling.events import Shed, ShedCode
from router.scheduling.placement.filters.static import rules_of, static_exclusion
from router.scheduling.placement.quality import TabulatedQuality
from tests.support.fleets import instance, request, worker

TOOLS = Tooling(tools=(Tool(name="look"),))
SCHEMA = Grammar(kind=GrammarKind.JSON_SCHEMA, text="{}")
NEEDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tools": ({"tooling": TOOLS}, {"tools": True}),
    "structured output (json_schema)": ({"grammar": SCHEMA}, {"grammars": (GrammarKind.JSON_SCHEMA,)}),
    "vision": ({"images": 2}, {"vision": True}),
    "log-probabilities": ({"sampling": Sampling(logprobs=True)}, {"logprobs": True}),
    "log-probabilities of the prompt": (
        {"sampling": Sampling(echo=True, logprobs=True)},
        {"logprobs": True, "prompt_logprobs": True},
    ),
    "embeddings": (
        {"kind": RequestKind.EMBEDDING, "embedding": EmbeddingInputs(inputs=("a",))},
        {"can_embed": True, "embeds_only": True},
    ),
}


def excluded(asked: dict[str, Any], able: dict[str, Any]) -> Any:
    held = instance("q8_0", capabilities=Capabilities(**able))
    return static_exclusion(worker("w", held), held, rules_of(request(1, **asked)), TabulatedQuality())


@pytest.mark.parametrize("what", NEEDS)
def test_what_a_request_needs_is_looked_for(what: str) -> None:
    """Who can takes it, who cannot is left out for that reason."""
    asked, able = NEEDS[what]
    assert excluded(asked, able) is None
    found = excluded(asked, {})
    assert found is not None
    assert found.filter is FilterName.CAPABILITY
    assert what in found.lacks
    assert what in found.reason


@pytest.mark.parametrize("what", NEEDS)
def test_whoever_asks_is_told_what_nobody_has(what: str) -> None:
    """A 400 that names the need and the model, before what each worker lacks."""
    found = excluded(NEEDS[what][0], {})
    why = NoCandidate(model="m", exclusions=Exclusions((found,)))
    error = error_of(Shed(request_id=RequestId("r"), code=ShedCode.NO_WORKER, reason=why.reasons(), no_candidate=why))
    assert error.http_status == 400
    assert error.message.startswith("needs ")
    assert what in error.message.partition(";")[0]
    assert "; nobody serving m has " in error.message


def test_tools_are_named_as_people_name_them() -> None:
    """The very words."""
    why = NoCandidate(model="m", exclusions=Exclusions((excluded({"tooling": TOOLS}, {}),)))
    shed = Shed(request_id=RequestId("r"), code=ShedCode.NO_WORKER, reason=why.reasons(), no_candidate=why)
    assert error_of(shed).message == "needs tools; nobody serving m has them: w@q8_0: has no tools"


def test_another_kind_of_grammar_is_another_need() -> None:
    """JSON schemas do not make regular expressions."""
    regex = {"grammar": Grammar(kind=GrammarKind.REGEX, text="a+")}
    assert excluded(regex, {"grammars": (GrammarKind.JSON_SCHEMA,)}).lacks == ("structured output (regex)",)


def test_tools_that_must_not_be_called_are_not_needed() -> None:
    """With tool_choice none anybody may answer."""
    assert excluded({"tooling": replace(TOOLS, choice=ToolChoice.NONE)}, {}) is None


def test_a_model_of_vectors_writes_nothing() -> None:
    """And a chat is not sent there."""
    assert excluded({}, {"embeds_only": True}).lacks == ("text generation",)


def test_what_is_not_loaded_yet_is_not_judged() -> None:
    """What it can do is known once it is."""
    held = instance("q8_0", capabilities=Capabilities(), state=InstanceState.LOADING)
    found = static_exclusion(worker("w", held), held, rules_of(request(1, tooling=TOOLS)), TabulatedQuality())
    assert found is not None
    assert found.filter is FilterName.STATE


@pytest.mark.parametrize(("mine", "goes"), [("hermes", True), ("llama3", False), ("", False)])
def test_an_answer_that_stopped_in_a_call_goes_on_where_its_marks_are_read(mine: str, goes: bool) -> None:
    """Elsewhere half a call would be taken for text."""
    held = instance("q8_0", output_format=mine)
    rules = rules_of(request(1, continues=True, output_format="hermes"))
    assert (static_exclusion(worker("w", held), held, rules, TabulatedQuality()) is None) is goes
