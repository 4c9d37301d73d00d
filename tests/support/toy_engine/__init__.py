"""An engine added as CONTRIBUTING says: this package, and one line in the table of engines."""

import contextlib
from collections.abc import Iterator

from tests.support.toy_engine.spec import Toy
from workers.engines.table import ENGINES


@contextlib.contextmanager
def toy_engine() -> Iterator[Toy]:
    """The line in the table, for the length of the block."""
    ENGINES[Toy.name] = spec = Toy()
    try:
        yield spec
    finally:
        del ENGINES[Toy.name]
