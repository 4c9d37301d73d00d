"""``fleet.toml``: text to ``DesiredState``. Every error names file, line and field. Pure."""

import difflib
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec

from protos.contract.models.quality import at_least
from protos.contract.models.quantization import canonical, find_format, unknown_format
from router.errors import ConfigError, InvalidRequest
from router.fleet.desired.lines import Lines, Path
from router.fleet.desired.values import Copies, DesiredModel, DesiredState, Rules, Source
from router.fleet.desired.wishes import BadWish, parse_wish

_TABLES: dict[tuple[str, ...], type[msgspec.Struct]] = {
    (): DesiredState,
    ("models",): DesiredModel,
    ("models", "copies"): Copies,
    ("models", "sources"): Source,
    ("rules",): Rules,
}
_DURATIONS = {"idle": "idle_s", "residence": "residence_s", "turn": "turn_s", "drain": "drain_s",
              "keep_alive_least": "keep_alive_least_s", "keep_alive_most": "keep_alive_most_s"}  # fmt: skip
"""Fields that people write as ``10m``; a bare number is seconds."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AT = re.compile(r"(.*) - at `\$\.?(.*?)`$", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")


class _Wrong(Exception):
    """What is wrong at a field."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(what)
        self.path = path
        self.what = what


def parse_fleet(text: str, name: str = "fleet.toml") -> DesiredState:
    """Raises ConfigError: ``fleet.toml, line 7, models[0].copies.min: expected int, got str``."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        at = f", line {found[1] if found else text.count(chr(10)) + 1}"
        raise ConfigError(f"{name}{at}: not valid TOML: {str(error).partition(' (at ')[0]}") from None
    try:
        return _state(tree)
    except _Wrong as wrong:
        line = Lines(text).of(wrong.path)
        where = f", line {line}" if line else ""
        field = f", {_shown(wrong.path)}" if wrong.path else ""
        raise ConfigError(f"{name}{where}{field}: {wrong.what}") from None


def check_state(state: DesiredState) -> None:
    """What the types do not say, of a state that came without a file. Raises InvalidRequest naming the field."""
    try:
        _check(state)
    except _Wrong as wrong:
        raise InvalidRequest(f"{_shown(wrong.path)}: {wrong.what}", param=f"state.{_shown(wrong.path)}") from None


def _state(tree: dict[str, Any]) -> DesiredState:
    plain = _read(tree, (), ())
    try:
        state = msgspec.convert(plain, DesiredState)
    except msgspec.ValidationError as error:
        raise _translated(str(error)) from None
    _check(state)
    return state


def _read(table: dict[str, Any], path: Path, kind: tuple[str, ...]) -> dict[str, Any]:
    """Names checked, durations read, copies and sources in their long form."""
    fields = _TABLES[kind].__struct_fields__
    known = [
        *(one for one in fields if one not in _DURATIONS.values()),
        *(k for k, v in _DURATIONS.items() if v in fields),
    ]
    found: dict[str, Any] = {}
    for key, value in table.items():
        here = (*path, key)
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}"
            raise _Wrong(here, f"no such field; {hint}")
        if key in _DURATIONS:
            found[_DURATIONS[key]] = _seconds(value, here)
        elif key == "copies" and isinstance(value, int) and not isinstance(value, bool):
            found[key] = {"min": value, "max": max(1, value)}  # 0: none, until somebody asks for it
        else:
            found[key] = _below(value, here, (*kind, key))
    if kind == ("models", "copies") and "max" not in found and isinstance(found.get("min"), int):
        found["max"] = max(1, found["min"])
    return found


def _below(value: Any, path: Path, kind: tuple[str, ...]) -> Any:
    if kind not in _TABLES:
        return value
    if isinstance(value, dict):
        return _read(value, path, kind)
    if isinstance(value, list):
        return [_read(one, (*path, number), kind) if isinstance(one, dict) else one for number, one in enumerate(value)]
    return value


def _seconds(value: Any, path: Path) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise _Wrong(path, f"{value!r} is no duration; write for example '90s', '10m' or '2h'")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _translated(problem: str) -> _Wrong:
    """Msgspec's words, and the place they speak of."""
    found = _AT.match(problem)
    what, at = found.groups() if found else (problem, "")
    path: Path = ()
    for index, key in _STEP.findall(at):
        path += (key or (0 if index == "..." else int(index)),)
    what = what.replace("`", "'").replace("Object missing required field", "it lacks the field")
    return _Wrong(path, what[:1].lower() + what[1:])


def _check(state: DesiredState) -> None:
    seen: dict[str, int] = {}
    for number, model in enumerate(state.models):
        path: Path = ("models", number)
        for place, what in _wrong(model):
            raise _Wrong((*path, *place), what)
        if model.name in seen:
            raise _Wrong((*path, "name"), f"'{model.name}' is there twice; the first is models[{seen[model.name]}]")
        seen[model.name] = number
    if state.rules.keep_alive_least_s > state.rules.keep_alive_most_s:
        raise _Wrong(("rules", "keep_alive_least"), "is more than keep_alive_most")


def _wrong(model: DesiredModel) -> Iterator[tuple[Path, str]]:
    if "@" in model.name or not model.name.isprintable():
        yield ("name",), "no client can ask for it: @ parts name and quantization"
    if model.copies.min > model.copies.max:
        yield ("copies", "min"), f"{model.copies.min} is more than max, {model.copies.max}"
    for quantization in (*model.quantizations, *((model.floor,) if model.floor else ())):
        if find_format(canonical(quantization)) is None:
            yield ("floor" if quantization == model.floor else "quantizations",), unknown_format(quantization)
    for quantization in model.quantizations:
        if model.floor and not at_least(canonical(quantization), canonical(model.floor)):
            yield ("quantizations",), f"{quantization} is below the floor, {model.floor}: no request would reach it"
    for number, source in enumerate(model.sources):
        if sum(map(bool, (source.path, source.pool, source.repo))) != 1 or bool(source.repo) != bool(source.file):
            yield ("sources", number), "give one of path, pool, or repo with file"
    try:
        parse_wish(model.where)
    except BadWish as bad:
        yield ("where",), str(bad)


def _shown(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
