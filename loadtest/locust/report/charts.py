"""Line charts as inline SVG: no script, no font, nothing loaded from anywhere."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 620, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 42
COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series. ``dots`` marks its points, ``dashed`` sets it apart as a reference."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    dashed: bool = False


def chart(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    log_y: bool = False,
    x_ticks: Sequence[tuple[float, str]] = (),
) -> str:
    """An SVG with axes, a legend below it, and the values of each point as its tooltip."""
    lines = [line for line in lines if line.points]
    if not lines:
        return '<p class="none">nothing to show</p>'
    xs = [point[0] for line in lines for point in line.points]
    ys = [point[1] for line in lines for point in line.points if not log_y or point[1] > 0]
    low_x, high_x = (x_ticks[0][0], x_ticks[-1][0]) if x_ticks else (min(*xs, 0.0), max(*xs, 1e-9))
    low_y, high_y = _range(ys, log_y=log_y)
    scale_y: Callable[[float], float] = (lambda value: math.log10(max(value, low_y))) if log_y else float
    at_x = _scale(low_x, high_x, LEFT, WIDTH - RIGHT)
    at_y = _scale(scale_y(low_y), scale_y(high_y), HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(y)} by {html.escape(x)}">']
    for value in _ticks(low_y, high_y, log_y=log_y):
        height = at_y(scale_y(value))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value, text in x_ticks or [(one, f"{one:g}") for one in _ticks(low_x, high_x, log_y=False)]:
        parts.append(
            f'<text class="tick" x="{at_x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>'
        )
    for place, line in enumerate(lines):
        parts.append(_line(line, COLOURS[place % len(COLOURS)], at_x, lambda value: at_y(scale_y(value)), x, y))
    parts.append(_title(x, f'x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}"'))
    parts.append(_title(y, f'transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)"'))
    parts.append("</svg>")
    keys = (
        f'<span><i style="background:{COLOURS[place % len(COLOURS)]}"></i>{html.escape(line.name)}</span>'
        for place, line in enumerate(lines)
    )
    return "".join(parts) + f'<div class="legend">{"".join(keys)}</div>'


def _title(text: str, place: str) -> str:
    return f'<text class="axis" {place} text-anchor="middle">{html.escape(text)}</text>'


def _line(
    line: Line, colour: str, at_x: Callable[[float], float], at_y: Callable[[float], float], x: str, y: str
) -> str:
    places = [(at_x(one), at_y(two), one, two) for one, two in line.points]
    path = " ".join(f"{one:.1f},{two:.1f}" for one, two, _, _ in places)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    drawn = [f'<polyline class="line" points="{path}" stroke="{colour}"{dash}/>']
    radius = 3 if line.dots else 2
    drawn += [
        f'<circle cx="{one:.1f}" cy="{two:.1f}" r="{radius}" fill="{colour}"><title>{html.escape(line.name)}: '
        f"{html.escape(y)} {value:.4g} at {html.escape(x)} {place:.4g}</title></circle>"
        for one, two, place, value in places
    ]
    return "".join(drawn)


def _range(values: Sequence[float], *, log_y: bool) -> tuple[float, float]:
    if not log_y:
        return 0.0, _ceiling(max([*values, 1e-9]))
    low, high = min([*values, 1.0]), max([*values, 1e-6])
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) + 1e-9)


def _ceiling(value: float) -> float:
    step = _step(value)
    return step * math.ceil(value / step - 1e-9)


def _step(span: float) -> float:
    rough = span / 5.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough - 1e-12)


def _ticks(low: float, high: float, *, log_y: bool) -> list[float]:
    if log_y:
        return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    step = _step(max(high - low, 1e-12))
    return [low + step * place for place in range(int((high - low) / step + 1e-9) + 1)]


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: first + (value - low) / span * (last - first)
