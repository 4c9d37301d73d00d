"""A model's ``options`` as an engine's own dataclass, with errors that name what is wrong and the nearest right."""

import difflib
from dataclasses import fields
from typing import Any, TypeVar

from workers.engines.base import LoadError, ModelSpec

T = TypeVar("T")


def option_values(kind: type[T], spec: ModelSpec, engine: str, *, positive: tuple[str, ...] = ()) -> T:
    """``spec.options`` over the defaults of ``kind``, whose fields are all plain values with a default.

    ``context_tokens`` and ``slots`` of the spec come first where they are set. ``positive`` must be at least 1.
    Raises LoadError naming the option.
    """
    defaults = kind()
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in spec.options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"valid options: {', '.join(sorted(known))}"
            raise LoadError(f"{engine} engine: unknown option '{name}'; {hint}")
        wanted = type(getattr(defaults, name))
        if not (isinstance(value, wanted) or (wanted is float and type(value) is int)):
            raise LoadError(f"{engine} engine: option '{name}' must be {wanted.__name__}, not {value!r}")
        values[name] = value
    if spec.context_tokens:
        values["context_tokens"] = spec.context_tokens
    if spec.slots:
        values["slots"] = spec.slots
    options = kind(**values)
    for name in positive:
        if getattr(options, name) < 1:
            raise LoadError(f"{engine} engine: option '{name}' must be at least 1, not {getattr(options, name)}")
    return options
