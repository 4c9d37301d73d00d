"""The folder's tokenizer and chat template, as the engines' common prompt code asks for them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers
import xgrammar

from workers.engines.base import LoadError
from workers.engines.grammar.compiler import TokenTable
from workers.engines.prompts import vocabulary_fingerprint


class Vocabulary:
    """Implements ``workers.engines.prompts.Tokenizer``."""

    def __init__(self, folder: Path, *, trust_remote_code: bool) -> None:
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise LoadError(f"{folder}: its tokenizer cannot be read ({reason}); download it again") from error
        self.vocab_size = len(self._tokenizer)
        self._pieces: list[bytes] = xgrammar.TokenizerInfo.from_huggingface(
            self._tokenizer, vocab_size=self.vocab_size
        ).decoded_vocab
        self._special = frozenset(self._tokenizer.all_special_ids)
        told = self._tokenizer.chat_template or ""
        self.template = str(told.get("default", "") if isinstance(told, dict) else told)

    @property
    def start_token(self) -> int:
        """Begin-of-sequence, or -1."""
        token = self._tokenizer.bos_token_id
        return -1 if token is None else int(token)

    @property
    def adds_start(self) -> bool:
        """Whether the tokenizer begins plain text with the begin-of-sequence token."""
        first = self._tokenizer("a")["input_ids"][0]
        return bool(first == self.start_token)

    @property
    def end_token(self) -> int:
        """End-of-sequence, or -1."""
        token = self._tokenizer.eos_token_id
        return -1 if token is None else int(token)

    def fingerprint(self) -> str:
        """Equal to llama.cpp's for the same vocabulary: both hash the tokens as their files spell them."""
        texts = self._tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        return vocabulary_fingerprint((text or "").encode() for text in texts)

    def tokenize(self, text: str, *, special: bool, add_start: bool) -> list[int]:
        """Token ids of ``text``. ``special``: parse markers such as <|im_start|>; else they are plain text."""
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]
        return [self.start_token, *ids] if add_start else list(ids)

    @property
    def special_texts(self) -> tuple[str, ...]:
        """What ``tokenize`` takes for special tokens, when it may."""
        added = self._tokenizer.added_tokens_decoder.values()
        return tuple({*self._tokenizer.all_special_tokens, *(one.content for one in added if one.special)})

    def piece(self, token: int) -> bytes:
        """Bytes of one token, as they appear in text; control tokens, and ids beyond the vocabulary, have none."""
        return b"" if token in self._special or token >= len(self._pieces) else self._pieces[token]

    @property
    def start_text(self) -> str:
        """The begin-of-sequence token's text, for templates."""
        return str(self._tokenizer.bos_token or "")

    @property
    def end_text(self) -> str:
        """The end-of-sequence token's text."""
        return str(self._tokenizer.eos_token or "")

    def token_table(self, ends: Iterable[int]) -> TokenTable:
        """The vocabulary for grammars."""
        texts = self._tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        tokens = [self.piece(token) for token in range(self.vocab_size)]
        for token in self._special:
            tokens[token] = b"\xff" + (texts[token] or "").encode()
        return TokenTable(
            tokens,
            end_tokens=sorted(ends),
            start_token=self.start_token,
            special=sorted(self._special),
            tokenize=lambda text: self.tokenize(text, special=False, add_start=False),
        )

    def marks(self, texts: Iterable[str]) -> dict[int, bytes]:
        """Which of these texts are one control token each, which has no text elsewhere."""
        found = {}
        for text in texts:
            ids = self.tokenize(text, special=True, add_start=False)
            if len(ids) == 1 and not self.piece(ids[0]) and ids[0] != self.end_token:
                found[ids[0]] = text.encode()
        return found
