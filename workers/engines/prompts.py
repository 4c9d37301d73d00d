"""From a job to token ids: render, tokenize, count, and refuse what does not fit, before any work is done.

Shared by the engines that tokenize themselves; pure apart from the tokenizer they bring.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from protos.contract.request import ContinueFrom, Job
from protos.contract.stream import RefusalCode
from workers.engines.base import Refused
from workers.engines.plain_words import SHIELD, PlainWords


class Tokenizer(Protocol):
    """What an engine's vocabulary can do."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""
        ...

    @property
    def adds_start(self) -> bool:
        """Whether plain text begins with the begin-of-sequence token."""
        ...

    @property
    def start_token(self) -> int:
        """Begin-of-sequence, or -1."""
        ...

    def tokenize(self, text: str, *, special: bool, add_start: bool) -> list[int]:
        """Token ids of ``text``. ``special``: parse markers such as <|im_start|>; else they are plain text."""
        ...

    @property
    def special_texts(self) -> tuple[str, ...]:
        """What ``tokenize`` takes for special tokens, when it may."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes of one token, as they appear in text; control tokens have none."""
        ...


class Template(Protocol):
    """A chat template."""

    def render(self, job: Job) -> str:
        """The prompt's text; raises Refused when the template does not accept the messages."""
        ...


SAMPLE = (
    "The quick brown fox jumps over the lazy dog. In 1969, three people flew to the Moon and back; two of them walked "
    "on it. def mean(values): return sum(values) / len(values)  # raises ZeroDivisionError when there are none"
)
"""What ``tokens_per_byte`` is measured on."""


def tokens_per_byte(tokenizer: Tokenizer) -> float:
    """Of English prose with some code: lets a router without the tokenizer estimate sizes."""
    return len(tokenizer.tokenize(SAMPLE, special=False, add_start=False)) / len(SAMPLE.encode())


def vocabulary_fingerprint(texts: Iterable[bytes]) -> str:
    """Hash of every token's text in order of the ids: equal exactly when token ids mean the same."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prepared:
    """``tokens`` are the prompt and, behind it, what the client already has (``sent``)."""

    tokens: list[int]
    prompt: list[int]
    sent: list[int]
    budget: int  # output tokens that may still come
    text: str = ""  # of a chat's prompt


class Prompts:
    """Counts exactly. Tokenizing reads the vocabulary only, so it may run on any thread."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: Template | None,
        context_tokens: int,
        fingerprint: str,
        marks: Mapping[int, bytes] | None = None,
    ) -> None:
        """``template`` None: the model completes text and knows no chat. ``marks``: control tokens whose text counts in
        what a model wrote, as the marks of its thoughts and calls.
        """
        self._marks = marks or {}
        self._tokenizer = tokenizer
        self._words = PlainWords(tokenizer.special_texts)
        self._template = template
        self._context_tokens = context_tokens
        self._fingerprint = fingerprint

    def prepare(self, job: Job) -> Prepared:
        """Token ids and the budget; raises Refused."""
        shielded = self._render(self._words.shielded(job)) if job.messages else ""
        prompt = self._prompt(job, shielded)
        text = shielded.replace(SHIELD, "")
        sent = self._sent(job.continue_from)
        tokens = prompt + sent
        return Prepared(tokens, prompt, sent, self._budget(job, len(tokens), len(prompt)), text)

    def to_score(self, text: str, token_ids: tuple[int, ...]) -> list[int]:
        """Tokens to score; raises Refused when there are fewer than two or more than the context holds."""
        tokens = list(token_ids) or self._plain(text)
        self._check_ids(tokens)
        if len(tokens) < 2:
            raise Refused(RefusalCode.INVALID, "scoring needs at least two tokens", parameter="text")
        if len(tokens) > self._context_tokens:
            reason = f"this model's context holds {self._context_tokens} tokens, the text has {len(tokens)}"
            raise Refused(RefusalCode.CONTEXT_LENGTH, reason, prompt_tokens=len(tokens), parameter="text")
        return tokens

    def to_embed(self, given: str | tuple[int, ...], parameter: str) -> list[int]:
        """Tokens a vector is wanted of, with the marks that the model puts around a text; raises Refused when there are
        none or more than the context holds.
        """
        if isinstance(given, str):
            tokens = self._tokenizer.tokenize(given, special=False, add_start=True) if given else []
        else:
            tokens = list(given)
            self._check_ids(tokens)
        if not tokens:
            raise Refused(RefusalCode.INVALID, "there is nothing to embed", parameter=parameter)
        if len(tokens) > self._context_tokens:
            reason = f"this model's context holds {self._context_tokens} tokens, the text has {len(tokens)}"
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                reason,
                prompt_tokens=len(tokens),
                context_tokens=self._context_tokens,
                parameter=parameter,
            )
        return tokens

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.tokenize(text, special=False, add_start=self._tokenizer.adds_start)

    def _check_ids(self, tokens: list[int]) -> None:
        size = self._tokenizer.vocab_size
        wrong = next((token for token in tokens if not 0 <= token < size), None)
        if wrong is not None:
            reason = f"token id {wrong} is outside the vocabulary of {size} tokens"
            raise Refused(RefusalCode.INVALID, reason, parameter="prompt")

    def _render(self, job: Job) -> str:
        if self._template is None:
            reason = "this model has no chat template; use /v1/completions, or give it one"
            raise Refused(RefusalCode.UNSUPPORTED, reason, parameter="messages")
        return self._template.render(job)

    def _prompt(self, job: Job, text: str) -> list[int]:
        if job.messages:
            prompt = self._of_chat(text)
        elif isinstance(job.prompt, str):
            prompt = self._plain(job.prompt)
        else:
            prompt = list(job.prompt)
            self._check_ids(prompt)
        if not prompt:
            start = self._tokenizer.start_token
            if start < 0:
                raise Refused(RefusalCode.INVALID, "the prompt is empty", parameter="prompt")
            prompt = [start]
        return prompt

    def _of_chat(self, text: str) -> list[int]:
        """Tokens of a rendered chat; where it has shields, piece by piece."""
        if SHIELD not in text:
            return self._tokenizer.tokenize(text, special=True, add_start=False)
        pieces = (one for one in text.split(SHIELD) if one)
        return [token for one in pieces for token in self._tokenizer.tokenize(one, special=True, add_start=False)]

    def _sent(self, resume: ContinueFrom | None) -> list[int]:
        """Tokens the client already has: its ids when they mean the same here and spell the text, else the text's."""
        if resume is None:
            return []
        ids = list(resume.token_ids)
        if ids and resume.tokenizer_fingerprint == self._fingerprint:
            spelled = b"".join(self._marks.get(token) or self._tokenizer.piece(token) for token in ids)
            if spelled == resume.text.encode("utf-8", "replace"):
                return ids
        marked = bool(self._marks)  # what the model wrote has them as tokens
        return self._tokenizer.tokenize(resume.text, special=marked, add_start=False) if resume.text else []

    def _budget(self, job: Job, used: int, prompt: int) -> int:
        left = self._context_tokens - used
        wanted = job.sampling.max_tokens
        if left < (0 if wanted == 0 else 1) or (wanted is not None and wanted > left):
            asked = f"{used} in the prompt" + (f", {wanted} for the answer" if wanted is not None else "")
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"this model's context holds {self._context_tokens} tokens, the request needs more: {asked}",
                prompt_tokens=prompt,
                max_tokens=wanted or 0,
                context_tokens=self._context_tokens,
                parameter="messages" if job.messages else "prompt",
            )
        return left if wanted is None else wanted
