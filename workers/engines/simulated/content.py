"""What a simulated engine says: its token at a position is a function of prompt and position, and of nothing else.

Every simulated worker, whatever its machine and quantization, gives the same answer to the same prompt, and a
continuation goes on with the word that would have come next. So a test can check a stream that moved between
workers word by word. Words carry their leading space, but for the first of an answer; each is one token.
"""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from statistics import NormalDist

from protos.contract.request import ChatMessage, Job

FINGERPRINT = "simulated-words-1"
"""Names the tokenizer below; workers with the same one may hand each other token ids."""

_WORDS = (
    "amber anchor autumn basket beacon birch bottle branch bridge candle canyon cedar chapel cherry circle cliff "
    "clover coast comet copper coral cotton crystal dancer desert dragon drift eagle ember falcon feather fern "
    "field flame forest fountain galaxy garden ginger glacier granite harbor harvest hazel hollow honey horizon "
    "island ivory jasmine journey juniper kettle kingdom lagoon lantern laurel lemon letter lilac linen lotus "
    "maple marble meadow mirror morning mosaic mountain nectar needle nickel oasis ocean olive opal orchard orchid "
    "paper pebble pepper pine planet plum pocket prairie quartz quiet rabbit rain raven reef ribbon river saffron "
    "sage sail sand shadow shell silver sky smoke snow spark spring spruce star stone storm summer sunset thunder "
    "timber topaz valley velvet violet walnut water willow wind winter"
)
WORDS: tuple[str, ...] = tuple(_WORDS.split())
"""The vocabulary."""

_PIECE = re.compile(r"\s?\S{1,8}|\s")
_NORMAL = NormalDist()
_CHAT_OVERHEAD = 4
"""Tokens a chat template adds per message: role, separators."""

MIN_ANSWER_TOKENS = 4

IMAGE_TOKENS = 256
"""What an image takes of the context."""

VECTOR_SIZE = 64


def vector(text: str | Sequence[int], dimensions: int = 0) -> tuple[float, ...]:
    """Of unit length; the same text has the same one."""
    rng = random.Random(prompt_key(text))
    values = [rng.gauss(0.0, 1.0) for _ in range(VECTOR_SIZE)][: dimensions or VECTOR_SIZE]
    length = math.sqrt(sum(one * one for one in values))
    return tuple(one / length for one in values)


def tokenize(text: str) -> list[str]:
    """Pieces of at most eight characters with their leading space; every word of ``WORDS`` is one piece."""
    return _PIECE.findall(text)


def prompt_key(prompt: str | Sequence[int] | Sequence[ChatMessage], salt: str = "") -> int:
    """The number an answer grows from: text, token ids or messages, and ``salt`` where answers are to differ."""
    digest = hashlib.blake2b(salt.encode(), digest_size=8)
    if isinstance(prompt, str):
        digest.update(b"text:" + prompt.encode("utf-8", "surrogatepass"))
    else:
        for part in prompt:
            if isinstance(part, ChatMessage):
                digest.update(f"\x1e{part.role}\x1f{part.name}\x1f{part.text}".encode("utf-8", "surrogatepass"))
                for image in part.images:
                    digest.update(image.data)
            else:
                digest.update(f"\x1e{part}".encode())
    return int.from_bytes(digest.digest(), "little")


def job_key(job: Job, salt: str = "") -> int:
    """The prompt's key; a seed makes an answer of its own unless decoding is greedy."""
    if job.sampling.seed is not None and job.sampling.temperature > 0.0:
        salt = f"{salt}seed:{job.sampling.seed}"
    return prompt_key(job.messages or job.prompt, salt)


def token_at(key: int, position: int) -> int:
    """Token id at an output position (0 is the first): the word's number, plus the vocabulary's size with a space."""
    word = _mix(key ^ _mix(position + 1)) % len(WORDS)
    return word if position == 0 else word + len(WORDS)


def token_text(token_id: int) -> str:
    """A token's text."""
    return WORDS[token_id] if token_id < len(WORDS) else " " + WORDS[token_id % len(WORDS)]


def answer(key: int, start: int, count: int) -> str:
    """Text of the output tokens from ``start`` on."""
    return "".join(token_text(token_at(key, position)) for position in range(start, start + count))


def answer_length(key: int, mu: float, sigma: float) -> int:
    """Tokens after which the answer ends by itself: log-normal over prompts, the same for every worker."""
    quantile = (_mix(key ^ 0x5DEECE66D) % (1 << 53) + 0.5) / (1 << 53)
    return max(round(math.exp(mu + sigma * _NORMAL.inv_cdf(quantile))), MIN_ANSWER_TOKENS)


def count_prompt(job: Job) -> int:
    """Prompt tokens, exactly."""
    if job.messages:
        return sum(len(tokenize(one.text)) + _CHAT_OVERHEAD + IMAGE_TOKENS * len(one.images) for one in job.messages)
    if isinstance(job.prompt, str):
        return max(len(tokenize(job.prompt)), 1)
    return max(len(job.prompt), 1)


def count_input(text: str | Sequence[int]) -> int:
    """Tokens of a text to embed."""
    return max(len(tokenize(text)) if isinstance(text, str) else len(text), 1)


def sent_before(job: Job) -> int:
    """Output tokens the client already has: by ids where the tokenizer is ours, else by the text."""
    before = job.continue_from
    if before is None:
        return 0
    if before.token_ids and before.tokenizer_fingerprint == FINGERPRINT:
        return len(before.token_ids)
    return len(tokenize(before.text))


def _mix(value: int) -> int:
    """SplitMix64's finalizer: every bit of the input moves every bit of the output."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
