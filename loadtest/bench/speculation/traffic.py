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

KINDS: dict[str, tuple[str, bool]] = {
    "rewrite a file": (
        f"Repeat this file without changes, except that `total` is now called `add`:\n```python\n{CODE}```", True
    ),
    "JSON from a table": (
        "Write every row as a JSON object with the keys name, city and age, one a line:\n"
        + "\n".join(f"{name}, {city}, {age}" for name, city, age in PEOPLE), True
    ),
    "quotation": (f'Quote this letter word for word, then quote it once more:\n"{LETTER}"', True),
    "prose": ("Tell the story of a river, a stone and the winter in which they met.", False),
    "explanation": ("Why is the sky blue at noon and red in the evening?", False),
}  # fmt: skip
"""Kind of traffic: the question, and whether its answer repeats much."""
