"""JSON extraction: a document in, a small object of a given schema out."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

from loadtest.locust.workloads.sessions import Session, Sizes, Turn
from loadtest.locust.workloads.text import words
from loadtest.simulate.draws import gamma_gaps, lognormal

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "city": {"type": "string"},
        "items": {"type": "integer"},
        "urgent": {"type": "boolean"},
    },
    "required": ["customer", "city", "items", "urgent"],
    "additionalProperties": False,
}
_TASK = "Read the order and answer with one JSON object: customer, city, items (a number), urgent (true or false)."
_NAMES = ("Ada Moor", "Bo Lind", "Cleo Hart", "Dan Frost", "Eve Stone", "Finn Ash")
_CITIES = ("Oslo", "Porto", "Kyoto", "Quito", "Delft", "Turin")
_OUTPUT_TOKENS = 96


def json_extraction(rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """Orders of some 200 tokens among other text; the answer ends where the model ends it."""
    gaps = gamma_gaps(1.0, 1.0, rng)
    at = 0.0
    for number in itertools.count():
        at += next(gaps)
        padding = words(sizes.prompt(lognormal(rng, 5.0, 0.6, 16, 4000)), rng)
        order = (
            f"{padding}\nOrder of {rng.choice(_NAMES)}, {rng.choice(_CITIES)}: {rng.randrange(1, 40)} items"
            f"{', urgent' if rng.random() < 0.3 else ''}."
        )
        yield Session(
            number=number,
            at=at,
            kind="json-extraction",
            system=_TASK,
            turns=(Turn(text=order, output_tokens=_OUTPUT_TOKENS),),
            response_format={"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": SCHEMA}},
            plain="Write nothing but the object.",
            ignore_eos=False,
        )
