"""Rule: whatever a client sends reaches the prompt, in the way the template has; what cannot is refused in a line."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job
from protos.contract.stream import RefusalCode
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling
from tests.unit.workers.engines.templates import sources
from workers.engines.base import LoadError, Refused
from workers.engines.prompts import Prompts
from workers.engines.templates.chat_template import ChatTemplate, template_of
from workers.engines.templates.messages import Traits

WEATHER = Tool(name="weather", description="Tells it.", parameters='{"type": "object", "properties": {"city": {}}}')
TOOLS = Tooling(tools=(WEATHER,))
USER = ChatMessage(role="user", content="How is Rome?")
SYSTEM = ChatMessage(role="system", content="Be brief.")
HISTORY = (
    USER,
    ChatMessage(
        role="assistant",
        content="I look.",
        tool_calls=(ToolCall(id="call_0123456789", name="weather", arguments='{"city": "Rome"}'),),
    ),
    ChatMessage(role="tool", content="sunny", tool_call_id="call_0123456789"),
)
ALL = {name: value for name, value in vars(sources).items() if name.isupper() and isinstance(value, str)}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, model="tiny", start="<s>", end="</s>")


def job(*messages: ChatMessage, **more: Any) -> Job:
    return Job(request_id=RequestId("r"), attempt=1, model="tiny", quantization="q", messages=messages, **more)


@pytest.mark.parametrize(
    ("source", "traits"),
    [
        (sources.CHATML, Traits(tools=False, calls=False)),
        (sources.TYPED, Traits(typed=True, tools=False, calls=False)),
        (sources.NO_SYSTEM, Traits(system=False, tools=False, calls=False)),
        (sources.ALTERNATING, Traits(system=False, tools=False, calls=False)),
        (sources.QWEN, Traits()),
        (sources.MISTRAL, Traits(system=False, short_ids=True)),
        (sources.TEXT_ARGUMENTS, Traits(text_arguments=True)),
    ],
)
def test_what_a_template_can_is_found_out(source: str, traits: Traits) -> None:
    assert template(source).traits == traits


@pytest.mark.parametrize("name", ALL)
def test_everything_a_client_says_is_in_the_prompt(name: str) -> None:
    """System message, tools, a call with its arguments, its result, and text in parts."""
    made = template(ALL[name])
    text = made.render(job(SYSTEM, *HISTORY, ChatMessage(role="user", parts=("And", " Bari?")), tooling=TOOLS))
    for word in ("Be brief.", "How is Rome?", "weather", '"city"', "Rome", "sunny", "And Bari?"):
        assert word in text, (word, text)


def test_a_system_message_stands_before_the_first_question_where_there_is_no_place_for_it() -> None:
    """With an empty line between: the same on every machine of a pool."""
    assert "<|im_start|>user\nBe brief.\n\nHow is Rome?<|im_end|>" in template(sources.NO_SYSTEM).render(
        job(SYSTEM, USER)
    )


def test_neighbours_of_one_role_are_one_message_where_roles_must_alternate() -> None:
    text = template(sources.ALTERNATING).render(job(USER, ChatMessage(role="user", content="Well?")))
    assert text == "[user] How is Rome?\n\nWell?\n"


def test_tools_that_must_not_be_called_are_not_described() -> None:
    none = Tooling(tools=TOOLS.tools, choice=ToolChoice.NONE)
    assert "weather" not in template(sources.CHATML).render(job(USER, tooling=none))


def test_arguments_reach_the_template_and_cannot_replace_the_messages() -> None:
    """chat_template_kwargs: thinking on or off."""
    made = template(sources.QWEN)
    on = made.render(job(USER, template_arguments='{"enable_thinking": true, "messages": []}'))
    off = made.render(job(USER, template_arguments='{"enable_thinking": false}'))
    assert made.opens_thoughts(on)
    assert not made.opens_thoughts(off)
    assert "How is Rome?" in on
    with pytest.raises(Refused, match="no JSON object"):
        made.render(job(USER, template_arguments="[1]"))


def test_an_error_inside_a_template_is_one_line_with_the_models_name() -> None:
    """The client's messages are at fault, and told so."""
    made = template("{{ raise_exception('only\ngreetings') if messages[0].content != 'hi' else 'hi' }}")
    with pytest.raises(Refused) as refused:
        made.render(job(USER))
    assert refused.value.message == "the chat template of tiny does not take these messages: only greetings"
    assert refused.value.code is RefusalCode.INVALID


def test_a_template_that_is_none_is_no_reason_to_load_the_model() -> None:
    with pytest.raises(LoadError, match="the chat template of tiny cannot be read: line 1"):
        template("{% for %}")


def test_a_template_may_be_given_from_a_file(tmp_path: Path) -> None:
    """A base model gets one; a path that is wrong is said."""
    given = tmp_path / "chat.jinja"
    given.write_text("G:{{ messages[0].content }}")
    made = template_of("", str(given), model="tiny")
    assert made is not None
    assert made.render(job(USER)) == "G:How is Rome?"
    assert template_of("", "", model="tiny") is None
    with pytest.raises(LoadError, match="check chat_template"):
        template_of("", str(tmp_path / "missing"), model="tiny")


def test_a_model_without_a_template_completes_text_and_chats_with_nobody() -> None:
    """No template is made up for it."""
    prompts = Prompts(SimpleNamespace(special_texts=()), None, 100, "f")  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        prompts.prepare(job(USER))
    assert refused.value.message == "this model has no chat template; use /v1/completions, or give it one"


def test_json_in_a_prompt_is_as_the_model_was_trained_on_it() -> None:
    """Letters are not escaped."""
    tool = Tool(name="weather", description="Wie ist's in K\u00f6ln?", parameters=json.dumps({"type": "object"}))
    assert "K\u00f6ln" in template(sources.QWEN).render(job(USER, tooling=Tooling(tools=(tool,))))
