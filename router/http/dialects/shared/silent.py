"""A writer of what is never streamed."""

from protos.contract.stream import Usage
from router.domain.answer import Chunk
from router.http.dialects.dialect import Told


class SilentWriter:
    """All of ``Writer`` but ``whole``."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def chunk(self, index: int, chunk: Chunk) -> bytes:  # noqa: ARG002 - as every writer
        """Nothing."""
        return b""

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""

    def closing(self, usage: Usage) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""
