"""What models of each family write, by their documentation and templates; the calls in it, the text around them."""

from typing import Any, NamedTuple

from workers.engines.tool_calls.formats import deepseek_mark

BEGIN, END, CALL, CALLED, SEP = map(
    deepseek_mark, ("tool calls begin", "tool calls end", "tool call begin", "tool call end", "tool sep")
)


class Recording(NamedTuple):
    form: str
    written: str
    calls: tuple[tuple[str, Any], ...]
    text: str = ""


ROME = {"city": "Rome", "days": 3}
PARIS = {"city": 'Paris \u2013 "la nuit" {1}', "days": 1}
R = '{"city": "Rome", "days": 3}'
P = '{"city": "Paris \\u2013 \\"la nuit\\" {1}", "days": 1}'

RECORDINGS = (
    Recording(
        "hermes",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 3}}\n</tool_call>',
        (("weather", ROME),),
    ),
    Recording(
        "hermes",
        'I will look.\n\n<tool_call>\n{"arguments": {"city": "Rome", "days": 3}, "name": "weather"}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "weather", "arguments": {P}}}\n</tool_call>\n',
        (("weather", ROME), ("weather", PARIS)),
        "I will look.",
    ),
    Recording(
        "hermes",
        "Rome is <b>sunny</b>, a < b and <tool> is none.",
        (),
        "Rome is <b>sunny</b>, a < b and <tool> is none.",
    ),
    Recording("hermes", '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>', (("clock", {}),)),
    Recording("llama3", '{"name": "weather", "parameters": {"city": "Rome", "days": 3}}', (("weather", ROME),)),
    Recording(
        "llama3",
        '<|python_tag|>{"name": "weather", "parameters": {"city": "Rome", "days": 3}}; '
        f'{{"name": "weather", "parameters": {P}}}',
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording(
        "llama3",
        '{"type": "function", "name": "weather", "parameters": {"city": "Rome", "days": 3}}',
        (("weather", ROME),),
    ),
    Recording("llama3", '{"city": "Rome", "sunny": true}', (), '{"city": "Rome", "sunny": true}'),
    Recording("llama3", '{"name": "Rome", "size": [1, 2]}', (), '{"name": "Rome", "size": [1, 2]}'),
    Recording(
        "mistral",
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome", "days": 3}}, '
        f'{{"name": "weather", "arguments": {P}, "id": "abcdefghi"}}]',
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording("mistral", '[TOOL_CALLS]weather{"city": "Rome", "days": 3}', (("weather", ROME),)),
    Recording(
        "mistral",
        f"Let me see.[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{R}[TOOL_CALLS]weather[ARGS]{P}",
        (("weather", ROME), ("weather", PARIS)),
        "Let me see.",
    ),
    Recording(
        "deepseek",
        f"{BEGIN}{CALL}function{SEP}weather\n```json\n"
        '{"city": "Rome", "days": 3}\n```'
        f"{CALLED}\n{CALL}function{SEP}weather\n"
        f"```json\n{P}\n```{CALLED}{END}",
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording(
        "deepseek",
        f'One moment.{BEGIN}{CALL}weather{SEP}{{"city": "Rome", "days": 3}}{CALLED}{END}',
        (("weather", ROME),),
        "One moment.",
    ),
    Recording(
        "granite",
        f'<|tool_call|>[{{"name": "weather", "arguments": {R}}}, {{"name": "weather", "arguments": {P}}}]',
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording(
        "gemma",
        "<start_function_call>call:weather{city:<escape>Rome<escape>,days:3}<end_function_call>",
        (("weather", ROME),),
    ),
    Recording(
        "gemma",
        'Fine. <|tool_call>call:weather{city:<|"|>Rome<|"|>,days:3}<tool_call|><|tool_call>call:weather'
        '{city:<|"|>Paris \u2013 "la nuit" {1}<|"|>,days:1}<tool_call|>',
        (("weather", ROME), ("weather", PARIS)),
        "Fine. ",
    ),
    Recording(
        "gemma",
        '<|tool_call>call:plan{stops:[{at:<|"|>Rome<|"|>,fine:true},{at:<|"|>Bari<|"|>}],note:null}<tool_call|>',
        (("plan", {"stops": [{"at": "Rome", "fine": True}, {"at": "Bari"}], "note": None}),),
    ),
    Recording("json", '{"name": "weather", "arguments": {"city": "Rome", "days": 3}}', (("weather", ROME),)),
    Recording(
        "json", '```json\n{"name": "weather", "arguments": {"city": "Rome", "days": 3}}\n```', (("weather", ROME),)
    ),
    Recording(
        "json",
        f'[{{"name": "weather", "arguments": {R}}}, {{"function": "weather", "arguments": {P}}}]',
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording(
        "json",
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\", \\"days\\": 3}"}</tool_call>',
        (("weather", ROME),),
    ),
    Recording("json", "```python\nprint(1)\n```", (), "```python\nprint(1)\n```"),
    Recording("json", "[1, 2, 3] is a list", (), "[1, 2, 3] is a list"),
    Recording("json", '{"name": "nobody", "arguments": {}}', (), '{"name": "nobody", "arguments": {}}'),
)
