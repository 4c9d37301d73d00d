"""The smallest vocabulary: a token for each byte, and an end."""

from workers.engines.grammar.compiler import GrammarCompiler, TokenTable

END = 0


def tokens_of(text: str) -> list[int]:
    return [byte + 1 for byte in text.encode()]


def table() -> TokenTable:
    return TokenTable(
        [b"\xff<end>", *(bytes([byte]) for byte in range(256))],
        end_tokens=[END],
        start_token=-1,
        special=[END],
        tokenize=tokens_of,
    )


def compiler() -> GrammarCompiler:
    return GrammarCompiler(table)
