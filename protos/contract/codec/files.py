"""Models' files on the wire: what is held, what is fetched, and the chunks themselves."""

import hashlib
from dataclasses import dataclass

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.records import Record
from protos.contract.files.content import FilePart, HeldModel, ModelContent
from protos.contract.printable import one_line

CHUNK_BYTES = 2**18
"""Of a file in one message: large enough to cost little, small enough not to be felt between two tokens."""

PART = Record(FilePart, pb.FilePart)
CONTENT = Record(ModelContent, pb.ModelContent, {"parts": PART})
HELD = Record(HeldModel, pb.HeldModel, {"content": CONTENT})


class BadChunk(ValueError):
    """A piece of a file that was damaged on its way, or is out of place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChunk:
    """``data`` stands at ``offset``; ``transfer`` names the upload in its first message."""

    offset: int
    data: bytes
    transfer: str = ""


def encode_chunk(chunk: FileChunk) -> pb.FileChunk:
    """With the hash of what it carries."""
    digest = hashlib.sha256(chunk.data).digest()
    return pb.FileChunk(transfer=chunk.transfer, offset=chunk.offset, data=chunk.data, sha256=digest)


def decode_chunk(message: pb.FileChunk) -> FileChunk:
    """Raises BadChunk where the data is not what its hash says."""
    if len(message.data) > CHUNK_BYTES:
        raise BadChunk(f"a chunk of {len(message.data)} bytes; at most {CHUNK_BYTES}")
    if hashlib.sha256(message.data).digest() != message.sha256:
        raise BadChunk(f"the chunk at {message.offset} was damaged on its way")
    return FileChunk(offset=message.offset, data=message.data, transfer=one_line(message.transfer)[:100])
