"""What a chat may call, and what it called."""

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: str = ""  # JSON text of a JSON schema; empty: it takes none
    strict: bool = False  # the arguments must fit the schema, whatever the model would like


class ToolChoice(StrEnum):
    """Whether there must be a call."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tooling:
    """The tools of a chat and how they may be used."""

    tools: tuple[Tool, ...]
    choice: ToolChoice = ToolChoice.AUTO
    name: str = ""  # of the tool, with NAMED
    single: bool = False  # at most one call in an answer

    @property
    def forced(self) -> tuple[Tool, ...]:
        """Those of which one must be called; none unless the choice says so."""
        if self.choice is ToolChoice.REQUIRED:
            return self.tools
        return tuple(one for one in self.tools if self.choice is ToolChoice.NAMED and one.name == self.name)

    @property
    def strict(self) -> bool:
        """Whether arguments are kept to their schemas: of calls that must be, and where every tool asks for it."""
        return bool(self.forced) or (bool(self.tools) and all(one.strict for one in self.tools))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call as it stands in a history."""

    id: str
    name: str
    arguments: str = ""  # JSON text


class ToolCallDelta(Struct, frozen=True, kw_only=True, gc=False):
    """New output of one call: the first of a call has its name, arguments follow in pieces of JSON text."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
