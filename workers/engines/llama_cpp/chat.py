"""What a GGUF says of chats: its template, and which control tokens are marks in what the model writes."""

from workers.engines.llama_cpp.native import NativeModel
from workers.engines.templates.chat_template import ChatTemplate, template_of


def gguf_template(model: NativeModel, name: str, given: str) -> ChatTemplate | None:
    """The chat template; None for a model that has none. ``given``: the path of another. Raises LoadError."""
    return template_of(
        model.meta("tokenizer.chat_template"),
        given,
        model=name,
        start=model.marker(model.start_token),
        end=model.marker(model.end_token),
        tool_template=model.meta("tokenizer.chat_template.tool_use"),
    )


def marks_in(model: NativeModel, template: ChatTemplate | None) -> dict[int, bytes]:
    """Control tokens, which have no text elsewhere, that mark this template's thoughts or calls."""
    found = {}
    for text in () if template is None else template.marks:
        ids = model.tokenize(text, special=True, add_start=False)
        if len(ids) == 1 and not model.piece(ids[0]) and not model.ends_generation(ids[0]):
            found[ids[0]] = text.encode()
    return found
