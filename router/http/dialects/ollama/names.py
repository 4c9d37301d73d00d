"""Names as Ollama's clients write them: ``name:latest`` means ``name``, unless there is a model of that very name."""

from collections.abc import Callable, Collection

LATEST = ":latest"


class Names:
    """``known``: every name that is or was served."""

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        self._known = known

    def ours(self, name: str) -> str:
        """What the router calls it.

        >>> names = Names(lambda: ("m", "llama3:latest"))
        >>> names.ours("m:latest"), names.ours("llama3"), names.ours("llama3:latest"), names.ours("m@q8_0")
        ('m', 'llama3:latest', 'llama3:latest', 'm@q8_0')
        """
        known = self._known()
        bare, at, rule = name.partition("@")
        if bare in known:
            return name
        other = bare.removesuffix(LATEST) if bare.endswith(LATEST) else bare + LATEST
        return f"{other}{at}{rule}" if other in known else name
