"""Where in a TOML text a field stands: the parser of the standard library tells of mistakes in TOML alone. Pure."""

import re

Path = tuple[str | int, ...]
"""Keys and, of arrays of tables, numbers from 0: ``("models", 1, "copies", "min")``."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*(\]\]?)\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class Lines:
    """Line numbers, from 1, of headers and keys. Of what stands inside an inline table: that of its key."""

    def __init__(self, text: str) -> None:
        self._at: dict[Path, int] = {}
        counts: dict[Path, int] = {}
        here: Path = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                here = self._open(_parts(header[2]), counts, array=header[1] == "[[")
                self._at.setdefault(here, number)
            elif key := _KEY.match(line):
                self._at.setdefault(here + _parts(key[1]), number)

    def _open(self, parts: Path, counts: dict[Path, int], *, array: bool) -> Path:
        """The path of a header: arrays of tables are counted, and what lies below is below their last."""
        path: Path = ()
        for place, part in enumerate(parts):
            path += (part,)
            if array and place == len(parts) - 1:
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path += (counts[path],)
        return path

    def of(self, path: Path) -> int:
        """The line of a field, or of the nearest thing around it that has one; 0: there is none."""
        while path and path not in self._at:
            path = path[:-1]
        return self._at.get(path, 0)


def _parts(text: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(text))
