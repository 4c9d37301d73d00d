"""What an answer must be like, whatever the model would like to say."""

from dataclasses import dataclass
from enum import StrEnum


class GrammarKind(StrEnum):
    """In what language it is told."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"  # any object
    REGEX = "regex"
    CHOICE = "choice"  # one of the given texts
    LARK = "lark"
    GBNF = "gbnf"  # llama.cpp's


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """One of them. ``text``: of the schema (JSON), the expression or the grammar."""

    kind: GrammarKind
    text: str = ""
    choices: tuple[str, ...] = ()  # with CHOICE

    @property
    def size_bytes(self) -> int:
        """Of everything it says."""
        return len(self.text.encode()) + sum(len(one.encode()) for one in self.choices)


MAX_GRAMMAR_BYTES = 256 * 1024
"""Of one grammar: the largest schemas that real tools send are a quarter of it."""
