"""Questions whose answers repeat what was said before, and questions whose answers do not."""

CODE = """def read(path):
    with open(path) as file:
        return [int(line) for line in file]

def total(numbers):
    result = 0
    for number in numbers:
        result = result + number
    return result

def average(numbers):
    return total(numbers) / len(numbers)

def largest(numbers):
    best = numbers[0]
    for number in numbers:
        if number > best:
            best = number
    return best
"""

PEOPLE = [
    ("Anna", "Paris", 31), ("Bert", "Rome", 42), ("Carla", "Oslo", 27), ("Dora", "Bern", 55), ("Emil", "Riga", 38),
    ("Frida", "Lund", 61), ("Gustav", "Graz", 19),
]  # fmt: skip

LETTER = (
    "Dear Mr. Holt, thank you for your letter of the third of May. The three crates of lamps you ordered left our "
    "warehouse on Monday and will reach the harbour of Rotterdam by the end of the week. One of the lamps was replaced "
    "because its glass had a crack. The invoice is enclosed; please pay within thirty days. Yours, Miriam Castell"
)

SHORT_CODE = """def add(a, b):
    return a + b

def twice(n):
    return add(n, n)
"""

MORE_PEOPLE = [("Hugo", "Wien", 44), ("Ida", "Kyiv", 23), ("Jan", "Brno", 36)]

SENTENCE = '"The ship leaves at dawn, and nobody has seen the captain since Friday."'


def _table(people: list[tuple[str, str, int]]) -> str:
    return "\n".join(f"{name}, {city}, {age}" for name, city, age in people)


def _json(people: list[tuple[str, str, int]]) -> str:
    return "\n".join(f'{{"name": "{name}", "city": "{city}", "age": {age}}}' for name, city, age in people)


KINDS: dict[str, tuple[tuple[str, ...], bool]] = {
    "rewrite a file": ((
        f"Rename `twice` to `double`:\n```python\n{SHORT_CODE}```",
        f"```python\n{SHORT_CODE.replace('twice', 'double')}```",
        f"Rename `total` to `add`:\n```python\n{CODE}```",
    ), True),
    "JSON from a table": ((
        f"Write as JSON:\n{_table(MORE_PEOPLE)}", _json(MORE_PEOPLE), f"Write as JSON:\n{_table(PEOPLE)}",
    ), True),
    "quotation": ((f"Quote: {SENTENCE}", SENTENCE, f'Quote: "{LETTER}"'), True),
    "prose": (("Tell the story of a river, a stone and the winter in which they met.",), False),
    "explanation": (("Why is the sky blue at noon and red in the evening?",), False),
}  # fmt: skip
"""Kind of traffic: the conversation so far, user and assistant in turn, and whether its answer repeats much.

Of what is to be repeated one example stands before: a model of 135M parameters, told without one to rewrite a file,
talks about files.
"""
