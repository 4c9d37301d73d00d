"""Compiles grammars for one vocabulary: bounded in time and memory, and kept for the next request that has the same."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from protos.contract.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind
from workers.engines.grammar.constraint import Constraint
from workers.engines.grammar.source import BadGrammar, sources_of, variants_of

KEPT = 64
"""Compiled grammars."""

LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,  # some 20 ms
    "step_lexer_fuel": 200_000,  # some 14 ms a token
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,  # 1 to 2 kB each
    "max_grammar_size": 500_000,
    "verbose_errors": False,  # they quote the grammar, on many lines
}
"""llguidance's defaults but for the states, of which a running answer may hold a fifth."""


class TokenTable:
    """A vocabulary as llguidance asks for it: bytes by token id, after a 0xFF where it is a control token."""

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        end_tokens: Sequence[int],
        start_token: int,
        special: Sequence[int],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        self.tokens = tokens
        self.end_tokens = list(end_tokens)
        self.eos_token_id = self.end_tokens[0]
        self.bos_token_id = start_token if start_token >= 0 else None
        self.special_token_ids = list(special)
        self._tokenize = tokenize

    def __call__(self, text: str | bytes) -> list[int]:
        """Token ids of a text, as UTF-8 or not."""
        return self._tokenize(text if isinstance(text, str) else text.decode("utf-8", "replace"))


class GrammarCompiler:
    """May be used from any thread. ``table`` is asked for once, with the first grammar: it takes up to a second."""

    def __init__(self, table: Callable[[], TokenTable]) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()

    def constraint(self, grammar: Grammar) -> Constraint:
        """A constraint at its beginning. Raises BadGrammar."""
        tokenizer = self._vocabulary()
        with self._lock:
            matcher = self._kept.get(grammar)
            if matcher is not None:
                self._kept.move_to_end(grammar)
        if matcher is None:
            matcher = _compile(grammar, tokenizer)
            with self._lock:
                self._kept[grammar] = matcher
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return Constraint(matcher.deep_copy(), tokenizer.vocab_size)

    def schema(self, text: str) -> str:
        """The JSON schema as it is compiled, to stand inside another grammar. Raises BadGrammar."""
        for variant in variants_of(text):
            plain = json.dumps(variant)
            if not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(plain), self._vocabulary()):
                return plain
        self.constraint(Grammar(kind=GrammarKind.JSON_SCHEMA, text=text))  # says why not
        return text

    def _vocabulary(self) -> LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                table = self._table()
                self._tokenizer = LLTokenizer(
                    TokenizerWrapper(table), n_vocab=len(table.tokens), eos_token=table.end_tokens
                )
            return self._tokenizer


def _compile(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    if grammar.size_bytes > MAX_GRAMMAR_BYTES:
        raise BadGrammar(f"it has {grammar.size_bytes} bytes, and {MAX_GRAMMAR_BYTES} are the most")
    reasons = []
    for source in sources_of(grammar):
        matcher = LLMatcher(tokenizer, source, log_level=0, limits=LLParserLimits(**LIMITS))
        if not matcher.is_error():
            return matcher
        reasons.append(_reason(matcher.get_error()))
    raise BadGrammar(reasons[0])


def _reason(text: str) -> str:
    """The reason in one line, without the option that it would like to be given."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "<non-verbose/>" not in line]
    return " ".join(lines).partition(". Enable '")[0][:400] or "no reason given"
