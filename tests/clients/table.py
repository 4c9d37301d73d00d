"""Rows of what worked, and the table client by feature. Needs nothing but the standard library: both sides read it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

CLIENTS = (
    "openai", "anthropic", "ollama", "litellm", "litellm_proxy", "langchain", "llama_index", "instructor",
    "pydantic_ai", "openai_agents", "llm", "guidellm", "aiperf", "llama_benchy", "lm_eval",
)  # fmt: skip
"""In the order they are run and shown."""


MODEL = "smollm2-135m"


class Cannot(Exception):
    """What a model of 135 million parameters on a processor, or the client itself, cannot do; said in one line."""


def refuse_if_unable(said: str) -> None:
    """Raises Cannot where the pool itself said that none of its engines has log-probabilities of a prompt."""
    if "needs log-probabilities of the prompt; nobody serving" in said:
        raise Cannot("no engine of this pool tells log-probabilities of a prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell. ``verdict``: ok, ``cannot: why``, or ``failed: what``; ``detail`` is for whoever mends it."""

    client: str
    feature: str
    verdict: str
    detail: str = ""


def append_row(path: Path, row: Row) -> None:
    """One line of JSON at once: what a client said before it hung is not lost."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Those that were written."""
    if not path.exists():
        return []
    return [Row(**json.loads(line)) for line in path.read_text().splitlines() if line]


def print_table(rows: list[Row]) -> None:
    """A line for each client, a column for each feature that at least one has."""
    features = list(dict.fromkeys(row.feature for row in rows))
    cells = {(row.client, row.feature): row.verdict.partition(":")[0] for row in rows}
    clients = list(dict.fromkeys(row.client for row in rows))
    width = max(len(one) for one in ("client", *clients))
    print()
    print("client".ljust(width), *features, sep="  ")
    for client in clients:
        print(client.ljust(width), *(cells.get((client, one), "").ljust(len(one)) for one in features), sep="  ")
    for row in rows:
        if row.verdict.startswith("cannot: "):
            print(f"{row.client}, {row.feature}: {row.verdict}")
