"""What a job is about, on the wire: messages with their parts, tools, grammars, texts to embed."""

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.records import Names, Record
from protos.contract.content import ContentPart, Image
from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import ChatMessage, EmbeddingInputs
from protos.contract.tools import Tool, ToolCall, ToolChoice, Tooling

_IMAGE = Record(Image, pb.Image)


class _Part:
    """Text or an image."""

    @staticmethod
    def encode(value: ContentPart) -> pb.ContentPart:
        return pb.ContentPart(text=value) if isinstance(value, str) else pb.ContentPart(image=_IMAGE.encode(value))

    @staticmethod
    def decode(message: pb.ContentPart) -> ContentPart:
        return _IMAGE.decode(message.image) if message.HasField("image") else message.text


class _Input:
    """Text or token ids."""

    @staticmethod
    def encode(value: str | tuple[int, ...]) -> pb.EmbeddingInput:
        return pb.EmbeddingInput(text=value) if isinstance(value, str) else pb.EmbeddingInput(token_ids=value)

    @staticmethod
    def decode(message: pb.EmbeddingInput) -> str | tuple[int, ...]:
        return tuple(message.token_ids) or message.text


MESSAGE = Record(ChatMessage, pb.ChatMessage, {"parts": _Part, "tool_calls": Record(ToolCall, pb.ToolCall)})

TOOLING = Record(
    Tooling,
    pb.Tooling,
    {
        "tools": Record(Tool, pb.Tool),
        "choice": Names(ToolChoice, pb.ToolChoice.DESCRIPTOR, unknown=ToolChoice.AUTO),
    },
)

GRAMMAR_KINDS = Names(GrammarKind, pb.GrammarKind.DESCRIPTOR, unknown=None)

GRAMMAR = Record(Grammar, pb.Grammar, {"kind": GRAMMAR_KINDS})

EMBEDDING = Record(EmbeddingInputs, pb.EmbeddingInputs, {"inputs": _Input})
