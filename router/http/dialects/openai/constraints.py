"""Which of the many fields for structured output a body uses: OpenAI's, vLLM's or llama.cpp's; one of them."""

from collections.abc import Iterator

from protos.contract.grammar import Grammar, GrammarKind
from router.errors import InvalidRequest
from router.http.dialects.openai.fields import GenerationFields, StructuredOutputs
from router.http.dialects.openai.schema import ChatRequest, ResponseFormat
from router.http.dialects.shared.grammars import choice_grammar, regex_grammar, schema_grammar, written_grammar


def grammar_of(body: GenerationFields) -> Grammar | None:
    """Raises InvalidRequest when two fields say what the answer must be like."""
    found = [*_openai(body), *_vllm(body), *_llama(body)]
    if len(found) > 1:
        raise InvalidRequest(f"Give '{found[0][0]}' or '{found[1][0]}', not both", param=found[1][0])
    return found[0][1] if found else None


def format_grammar(wanted: ResponseFormat, *, param: str) -> Grammar | None:
    """None for plain text."""
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return (
            Grammar(kind=GrammarKind.JSON_OBJECT) if not wanted.schema else schema_grammar(wanted.schema, param=param)
        )
    schema = wanted.json_schema.schema if wanted.json_schema is not None else wanted.schema
    if schema is None:
        raise InvalidRequest(f"Missing required parameter: '{param}.json_schema'", param=f"{param}.json_schema")
    return schema_grammar(schema, param=f"{param}.json_schema.schema")


def _openai(body: GenerationFields) -> Iterator[tuple[str, Grammar]]:
    if isinstance(body, ChatRequest) and body.response_format is not None:
        grammar = format_grammar(body.response_format, param="response_format")
        if grammar is not None:
            yield "response_format", grammar


def _vllm(body: GenerationFields) -> Iterator[tuple[str, Grammar]]:
    if body.guided_json is not None:
        yield "guided_json", schema_grammar(body.guided_json, param="guided_json")
    if body.guided_regex is not None:
        yield "guided_regex", regex_grammar(body.guided_regex, param="guided_regex")
    if body.guided_choice is not None:
        yield "guided_choice", choice_grammar(body.guided_choice, param="guided_choice")
    if body.guided_grammar is not None:
        yield "guided_grammar", written_grammar(body.guided_grammar, param="guided_grammar")
    if body.structured_outputs is not None:
        yield from _structured(body.structured_outputs)


def _structured(wanted: StructuredOutputs) -> Iterator[tuple[str, Grammar]]:
    where = "structured_outputs"
    if wanted.json is not None:
        yield f"{where}.json", schema_grammar(wanted.json, param=f"{where}.json")
    if wanted.regex is not None:
        yield f"{where}.regex", regex_grammar(wanted.regex, param=f"{where}.regex")
    if wanted.choice is not None:
        yield f"{where}.choice", choice_grammar(wanted.choice, param=f"{where}.choice")
    if wanted.grammar is not None:
        yield f"{where}.grammar", written_grammar(wanted.grammar, param=f"{where}.grammar")
    if wanted.json_object:
        yield f"{where}.json_object", Grammar(kind=GrammarKind.JSON_OBJECT)


def _llama(body: GenerationFields) -> Iterator[tuple[str, Grammar]]:
    if body.grammar:
        yield "grammar", written_grammar(body.grammar, param="grammar")
    if body.json_schema is not None:
        yield "json_schema", schema_grammar(body.json_schema, param="json_schema")
