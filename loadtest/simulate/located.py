"""Errors that name the file, the line and the field: tomllib gives values without lines, this finds them again."""

import re

from router.errors import ConfigError


class InputError(ConfigError):
    """A fleet file or trace that cannot be used; the message is one line."""


def error_at(source: str, line: int | None, field: str, problem: str) -> InputError:
    """``FILE, line N: FIELD problem``."""
    place = f"{source}, line {line}" if line else source
    return InputError(f"{place}: {field} {problem}" if field else f"{place}: {problem}")


class TomlLines:
    """Where keys of ``[[array]]`` tables and ``[tables]`` stand in a TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table, index = "", 0
        for number, line in enumerate(text.splitlines(), 1):
            header = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?\s*(#.*)?$", line)
            if header:
                table = header.group(1)
                index = counts.get(table, 0)
                counts[table] = index + 1
                self._lines[table, index, ""] = number
                continue
            key = re.match(r"\s*([\w-]+)\s*=", line)
            if key:
                self._lines.setdefault((table, index, key.group(1)), number)

    def line(self, table: str, index: int = 0, field: str = "") -> int | None:
        """The key's line, else its table's, else None."""
        return self._lines.get((table, index, field)) or self._lines.get((table, index, ""))
