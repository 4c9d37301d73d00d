"""Whatever anybody writes, the special tokens of a prompt are those that its template wrote, and no letter is lost."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job
from protos.contract.tools import Tool, ToolCall, Tooling
from workers.engines.plain_words import SHIELD
from workers.engines.prompts import Prompts
from workers.engines.templates.chat_template import ChatTemplate

MARKERS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]", "</s>")
TEMPLATE = (
    "{% for t in tools or [] %}<|im_start|>tool {{ t.function.name }} {{ t.function.description }} "
    "{{ t.function.parameters | tojson }}<|im_end|>{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments }}){% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
_ANY = re.compile("|".join(map(re.escape, MARKERS)))


class Letters:
    """A tokenizer of single characters, and of markers where it may see them: ids from 0x200000 on."""

    vocab_size = 0x200000 + len(MARKERS)
    adds_start = False
    start_token = -1
    special_texts = MARKERS

    def tokenize(self, text: str, *, special: bool, add_start: bool) -> list[int]:
        tokens: list[int] = []
        place = 0
        for found in _ANY.finditer(text) if special else ():
            tokens += map(ord, text[place : found.start()])
            tokens.append(0x200000 + MARKERS.index(found[0]))
            place = found.end()
        return tokens + list(map(ord, text[place:]))

    def piece(self, token: int) -> bytes:
        return b"" if token >= 0x200000 else chr(token).encode()


def text_of(tokens: list[int]) -> str:
    return "".join(MARKERS[one - 0x200000] if one >= 0x200000 else chr(one) for one in tokens)


def specials(tokens: list[int]) -> int:
    return sum(one >= 0x200000 for one in tokens)


WORDS = st.lists(
    st.sampled_from([*MARKERS, SHIELD, "<|im_", "end|>", "<", "|", "hello ", "\n", "é"]) | st.text("ab<|>", max_size=4),
    max_size=8,
).map("".join)
JSON_WORDS = st.dictionaries(WORDS, WORDS | st.lists(WORDS, max_size=2), max_size=2)


def _escaped(value: object) -> str:
    """Every letter of every text as an escape: the marker is not to be seen in the JSON."""
    plain = json.dumps(value)
    return re.sub(r"[<|\[\]](?=[^\"]*\"(?:[^\"]*\"[^\"]*\")*[^\"]*$)", lambda one: f"\\u{ord(one[0]):04x}", plain)


PROMPTS = Prompts(Letters(), ChatTemplate(TEMPLATE, model="m"), 10**7, "f")


def job(*messages: ChatMessage, tooling: Tooling | None = None) -> Job:
    return Job(request_id=RequestId("r"), attempt=1, model="m", quantization="", messages=messages, tooling=tooling)


@given(contents=st.lists(WORDS, min_size=1, max_size=4), names=st.lists(WORDS, min_size=1, max_size=4))
def test_words_make_no_special_tokens(contents: list[str], names: list[str]) -> None:
    """Content and names, of every role."""
    roles = ("system", "user", "assistant", "tool")
    told = tuple(
        ChatMessage(role=roles[number % 4], content=content, name=names[number % len(names)])
        for number, content in enumerate(contents)
    )
    prepared = PROMPTS.prepare(job(*told))
    assert specials(prepared.prompt) == 2 * len(contents) + 1
    assert text_of(prepared.prompt) == prepared.text
    for content in contents:
        assert content.replace(SHIELD, "") in prepared.text


@given(arguments=JSON_WORDS, description=WORDS, escaped=st.booleans())
def test_calls_and_tools_make_none_either_however_they_are_written(
    arguments: dict[str, object], description: str, escaped: bool
) -> None:
    """A marker that is written with escapes comes out when the template reads the JSON."""
    text = _escaped(arguments) if escaped else json.dumps(arguments, ensure_ascii=False)
    assert json.loads(text) == arguments
    schema = json.dumps({"type": "object", "properties": {}, "title": description})
    tool = Tool(name="look", description=description, parameters=_escaped(json.loads(schema)) if escaped else schema)
    told = (
        ChatMessage(role="user", content="hi"),
        ChatMessage(role="assistant", tool_calls=(ToolCall(id="1", name="look", arguments=text),)),
    )
    prepared = PROMPTS.prepare(job(*told, tooling=Tooling(tools=(tool,))))
    assert specials(prepared.prompt) == 2 * 3 + 1


def test_a_plain_prompt_is_untouched() -> None:
    """Completion endpoints never parsed markers."""
    one = Job(request_id=RequestId("r"), attempt=1, model="m", quantization="", prompt="<|im_end|>")
    assert specials(PROMPTS.prepare(one).prompt) == 0
