"""Cuts a prompt into text blocks and hashes them in a chain: what prefix affinity is computed on.

The router has no tokenizer, so blocks are bytes. A block's hash covers everything before it, so two prompts share
their first n hashes exactly when they share their first n blocks. Messages are serialised so that a conversation
that goes on shares its whole past with the one before it.
"""

from collections.abc import Sequence

import xxhash

from protos.contract.request import ChatMessage
from protos.contract.tools import Tool, Tooling

BLOCK_BYTES = 256
"""Bytes of UTF-8 per block: about 64 tokens of English, four blocks of vLLM's default 16 tokens."""

MAX_BLOCKS = 4096
"""Blocks hashed per prompt at most (1 MiB of text): what lies behind them does not decide a placement."""

# Unit and record separators: control characters that a chat message has no use for, so that the end of one field
# and the beginning of the next cannot be mistaken for text.
_FIELD = "\x1f"
_MESSAGE = "\x1e"


def block_hashes(
    prompt: Sequence[ChatMessage] | str | Sequence[int], tooling: Tooling | None = None
) -> tuple[int, ...]:
    """Chained 64-bit hashes of the prompt's whole blocks; the rest that fills no block is left out.

    ``prompt`` is a conversation, a text, or token ids. Text and conversation never share hashes by accident: a
    conversation starts with a separator.
    """
    return hash_chain(serialise(prompt, tooling))


def serialise(prompt: Sequence[ChatMessage] | str | Sequence[int], tooling: Tooling | None = None) -> bytes:
    """Bytes in which every longer conversation starts with the shorter one's bytes. Templates put the tools first."""
    if isinstance(prompt, str):
        return prompt.encode("utf-8", "surrogatepass")
    parts = [] if tooling is None else [_of_tool(one) for one in tooling.tools]
    parts += [
        _of_message(item) if isinstance(item, ChatMessage) else int(item).to_bytes(4, "little") for item in prompt
    ]
    return b"".join(parts)


def _of_message(message: ChatMessage) -> bytes:
    fields = [message.role, message.name, message.text]
    if message.tool_calls or message.tool_call_id or message.reasoning:
        fields += [message.tool_call_id, message.reasoning]
        fields += [f"{one.name}{_FIELD}{one.arguments}" for one in message.tool_calls]
    fields += [xxhash.xxh3_64_hexdigest(one.data) for one in message.images]
    return f"{_MESSAGE}{_FIELD.join(fields)}".encode("utf-8", "surrogatepass")


def _of_tool(tool: Tool) -> bytes:
    return f"{_MESSAGE}{_FIELD.join((tool.name, tool.description, tool.parameters))}".encode("utf-8", "surrogatepass")


def hash_chain(data: bytes, salt: str = "") -> tuple[int, ...]:
    """XXH3 over each whole block, seeded with the hash before it; the first with that of ``salt``, if there is one."""
    count = min(len(data) // BLOCK_BYTES, MAX_BLOCKS)
    view = memoryview(data)
    digest = xxhash.xxh3_64_intdigest
    hashes = []
    seed = digest(salt.encode()) if salt else 0
    for start in range(0, count * BLOCK_BYTES, BLOCK_BYTES):
        seed = digest(view[start : start + BLOCK_BYTES], seed)
        hashes.append(seed)
    return tuple(hashes)
