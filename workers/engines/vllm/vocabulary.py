"""The folder's tokenizer and chat template, as the engines' common prompt code asks for them."""

import json
from pathlib import Path
from typing import Any

import transformers
import xgrammar

from protos.contract.request import ChatMessage
from protos.contract.stream import RefusalCode
from workers.engines.base import LoadError, Refused
from workers.engines.prompts import vocabulary_fingerprint

DEFAULT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, for folders without a template."""


class Vocabulary:
    """Implements ``workers.engines.prompts.Tokenizer`` and ``Template``."""

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
        self.template = str(self._tokenizer.chat_template or "")

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

    def piece(self, token: int) -> bytes:
        """Bytes of one token, as they appear in text; control tokens, and ids beyond the vocabulary, have none."""
        return b"" if token in self._special or token >= len(self._pieces) else self._pieces[token]

    def render(self, messages: tuple[ChatMessage, ...]) -> str:
        """The prompt's text; raises Refused when the template does not accept the messages."""
        import jinja2

        plain = [{"role": m.role, "content": m.content, **({"name": m.name} if m.name else {})} for m in messages]
        try:
            rendered = self._tokenizer.apply_chat_template(
                plain,
                chat_template=None if self.template else DEFAULT_TEMPLATE,
                tokenize=False,
                add_generation_prompt=True,
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            reason = f"the model's chat template does not accept these messages: {error}"
            raise Refused(RefusalCode.INVALID, reason, parameter="messages") from error
        return str(rendered)
