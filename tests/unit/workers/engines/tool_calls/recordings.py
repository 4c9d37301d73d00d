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
    reasoning: str = ""


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
    Recording(
        "llama3",
        f'<|python_start|>{{"name": "weather", "parameters": {R}}}<|python_end|>',
        (("weather", ROME),),
    ),
    Recording(
        "kimi",
        f"I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{R}"
        f"<|tool_call_end|><|tool_call_begin|>functions.weather:1<|tool_call_argument_begin|>{P}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        (("weather", ROME), ("weather", PARIS)),
        "I look.",
    ),
    Recording(
        "phi4",
        f'<|tool_call|>[{{"name": "weather", "arguments": {R}}}]<|/tool_call|>',
        (("weather", ROME),),
    ),
    Recording(
        "phi4",
        f'functools[{{"name": "weather", "arguments": {R}}}, {{"name": "weather", "arguments": {P}}}]',
        (("weather", ROME), ("weather", PARIS)),
    ),
    Recording("phi4", "Use functools to cache it.", (), "Use functools to cache it."),
    Recording(
        "qwen3-coder",
        "I will look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n"
        "</parameter>\n</function>\n</tool_call>",
        (("weather", ROME),),
        "I will look.\n\n",
    ),
    Recording(
        "qwen3-coder",
        "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>\n<tool_call>\n<function=clock>\n</function>\n</tool_call>",
        (("weather", ROME), ("clock", {})),
    ),
    Recording(
        "qwen3-coder",
        "<function=plan>\n<parameter=code>\nif a < b:\n    print('</b>')\n\n</parameter>\n<parameter=stops>\n"
        '[{"at": "Rome", "fine": true}]\n</parameter>\n<parameter=note>\n7\n</parameter>\n</function>\n</tool_call>',
        (("plan", {"code": "if a < b:\n    print('</b>')\n", "stops": [{"at": "Rome", "fine": True}], "note": "7"}),),
    ),
    Recording("qwen3-coder", "a <tool_call> is no call</tool_call>", (), "a <tool_call> is no call</tool_call>"),
    Recording(
        "seed",
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n"
        "</function>\n</seed:tool_call>",
        (("weather", ROME),),
    ),
    Recording(
        "minimax",
        'So.\n<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Rome</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n<invoke name="clock">\n</invoke>\n</minimax:tool_call>',
        (("weather", ROME), ("clock", {})),
        "So.\n",
    ),
    Recording(
        "glm",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>clock\n</tool_call>",
        (("weather", ROME), ("clock", {})),
    ),
    Recording(
        "glm",
        "Yes.<tool_call>plan<arg_key>note</arg_key><arg_value>7</arg_value><arg_key>stops</arg_key>"
        '<arg_value>[{"at": "Rome"}]</arg_value></tool_call>',
        (("plan", {"note": "7", "stops": [{"at": "Rome"}]}),),
        "Yes.",
    ),
    Recording(
        "pythonic",
        "[weather(city='Rome', days=3), weather(city='Paris \u2013 \"la nuit\" {1}', days=1), clock()]",
        (("weather", ROME), ("weather", PARIS), ("clock", {})),
    ),
    Recording(
        "pythonic",
        'Wait.<|tool_call_start|>[plan(stops=[{"at": "Rome", "fine": true}], note=None)]<|tool_call_end|>',
        (("plan", {"stops": [{"at": "Rome", "fine": True}], "note": None}),),
        "Wait.",
    ),
    Recording(
        "pythonic",
        '<function_calls>\nweather(city="Rome", days=3)\nclock()\n</function_calls>',
        (("weather", ROME), ("clock", {})),
    ),
    Recording("pythonic", "<|python_start|>[clock()]<|python_end|>", (("clock", {}),)),
    Recording("pythonic", "[1] says (see [2]) so.", (), "[1] says (see [2]) so."),
    Recording("pythonic", "[open('/etc/passwd')]", (), "[open('/etc/passwd')]"),
    Recording("pythonic", "[nobody(a=1)]", (), "[nobody(a=1)]"),
    Recording(
        "harmony",
        "<|channel|>analysis<|message|>Need the weather.<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.weather <|constrain|>json<|message|>{R}<|call|>",
        (("weather", ROME),),
        "",
        "Need the weather.",
    ),
    Recording(
        "harmony",
        "<|channel|>analysis<|message|>Two.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        f"<|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{P}",
        (("weather", PARIS),),
        "I look.",
        "Two.",
    ),
    Recording(
        "harmony",
        "<|channel|>analysis<|message|>2 < 3 |> so.<|end|><|start|>assistant<|channel|>final<|message|>It is four.",
        (),
        "It is four.",
        "2 < 3 |> so.",
    ),
    Recording(
        "harmony",
        " to=functions.clock<|channel|>commentary<|message|>{}<|call|>",
        (("clock", {}),),
    ),
    Recording(
        "harmony",
        "<|channel|>commentary to=python<|message|>print(1)<|end|><|start|>assistant<|channel|>final<|message|>One.",
        (),
        "One.",
        "print(1)",
    ),
    Recording("harmony", '{"kept": "to a grammar"}', (), '{"kept": "to a grammar"}'),
    Recording("json", "```python\nprint(1)\n```", (), "```python\nprint(1)\n```"),
    Recording("json", "[1, 2, 3] is a list", (), "[1, 2, 3] is a list"),
    Recording("json", '{"name": "nobody", "arguments": {}}', (), '{"name": "nobody", "arguments": {}}'),
)
