"""Pictures as inline SVG: lines with bands, reliability diagrams, intervals beside names. No script, no font, no link.

Colours are CSS classes (`c0`, `c1`, ... of the page), so that one picture serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

# Narrow on purpose: letters keep their size on a phone, where a wide picture would shrink.
_WIDTH, _HEIGHT = 400, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 10, 42
_LETTER = 7.6
"""Width of a letter at the page's 12.5 px, on the safe side."""
_BESIDE = 24
"""Names up to this long stand beside their intervals, longer ones above."""


@dataclass(frozen=True)
class Line:
    """A curve, with a band between `low` and `high` where they are given; NaN breaks it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dots: bool = False
    """Draw the points alone."""
    dashed: bool = False
    colour: int | None = None
    """Index of the page's colours; by default the line's place."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval beside a name."""

    label: str
    value: float
    ends: Sequence[float] | None = None
    colour: int = 0


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    upper: Sequence[tuple[float, str]] = (),
) -> str:
    """Curves over one axis; `marks` are vertical lines (x, label), `upper` what stands above at x, where there is room.

    `title` is read by screen readers.
    """
    xs = [x for line in lines for x in line.x if math.isfinite(x)] + [x for x, _ in marks]
    ys = [y for line in lines for part in (line.y, line.low, line.high) for y in part or () if math.isfinite(y)]
    if not xs or not ys:
        raise ValueError("a chart needs at least one finite point")
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = y_range or _padded(min(ys), max(ys))
    place_x = _scale(x_low, x_high, _LEFT + 6, _WIDTH - _RIGHT - 6, log=log_x)
    top = _TOP + (16 if upper else 0)
    place_y = _scale(y_low, y_high, _HEIGHT - _BOTTOM, top)
    parts = [_axes(place_x, place_y, x_ticks or ticks(x_low, x_high), ticks(y_low, y_high), x_label, y_label)]
    parts += _upper(upper, place_x)
    for x, label in marks:
        at = place_x(x)
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{top}" y2="{_HEIGHT - _BOTTOM}"/>')
        left = at + 5 + _LETTER * len(label) > _WIDTH - _RIGHT
        anchor, shift = ("end", -5) if left else ("start", 5)
        parts.append(f'<text x="{at + shift:.1f}" y="{top + 11}" text-anchor="{anchor}">{escape(label)}</text>')
    for number, line in enumerate(lines):
        colour = f"c{number if line.colour is None else line.colour}"
        if line.low is not None and line.high is not None:
            ends = [(x, low, high) for x, low, high in zip(line.x, line.low, line.high, strict=True)]
            ends = [end for end in ends if all(map(math.isfinite, end))]
            outline = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in ends[::-1]]
            parts.append(f'<polygon class="band {colour}" points="{_points(outline, place_x, place_y)}"/>')
        known = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        if line.dots:
            parts += [f'<circle class="dot {colour}" cx="{place_x(x)}" cy="{place_y(y)}" r="3"/>' for x, y in known]
        else:
            style = " dashed" if line.dashed else ""
            parts.append(f'<polyline class="curve {colour}{style}" points="{_points(known, place_x, place_y)}"/>')
    return _svg(parts, title, _HEIGHT) + _legend(lines)


def interval_chart(
    rows: Sequence[Interval], *, title: str, x_label: str, reference: tuple[float, str] | None = None
) -> str:
    """Values with their intervals, one a line, beside a vertical reference (value, label)."""
    values = [v for row in rows for v in (row.value, *(row.ends or ())) if math.isfinite(v)]
    values += [] if reference is None else [reference[0]]
    if not values:
        raise ValueError("a chart needs at least one finite value")
    low, high = _padded(min(values), max(values))
    longest = max(len(row.label) for row in rows)
    above = longest > _BESIDE
    step, top = (36, _TOP + 14) if above else (24, _TOP + (14 if reference else 0))
    left = 10 if above else 14 + _LETTER * longest
    bottom = top + step * len(rows) + 6
    place = _scale(low, high, left, _WIDTH - 14)
    parts = []
    for value in ticks(low, high):
        parts.append(f'<line class="grid" x1="{place(value)}" x2="{place(value)}" y1="{top}" y2="{bottom}"/>')
        parts.append(_below(place(value), bottom + 15, _plain(value)))
    if reference is not None:
        at = place(reference[0])
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')
        parts.append(_below(at, top - 5, reference[1]))
    for number, row in enumerate(rows):
        y = top + step * number + (27 if above else step / 2)
        if above:
            shown = escape(_short(row.label, int((_WIDTH - 4) / _LETTER)))
            parts.append(f'<text class="name" x="2" y="{y - 12:.1f}">{shown}</text>')
        else:
            parts.append(f'<text x="{left - 10:.1f}" y="{y + 4.5:.1f}" text-anchor="end">{escape(row.label)}</text>')
        if row.ends:
            ends = f'x1="{place(row.ends[0])}" x2="{place(row.ends[1])}"'
            parts.append(f'<line class="whisker c{row.colour}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
        if math.isfinite(row.value):
            parts.append(f'<circle class="dot c{row.colour}" cx="{place(row.value)}" cy="{y:.1f}" r="4"/>')
    parts.append(_below((left + _WIDTH - 14) / 2, bottom + 31, x_label))
    return _svg(parts, title, bottom + 37)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers within low..high."""
    span = (high - low) or 1.0
    power = 10 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / (power * m) <= count)
    start = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(start, math.floor(high / step + 1e-9) + 1)]


def _axes(
    place_x: Callable[[float], float],
    place_y: Callable[[float], float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> str:
    parts = []
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in y_ticks:
        y = place_y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4.5:.1f}" text-anchor="end">{_plain(value)}</text>')
    for value in x_ticks:
        parts.append(_below(place_x(value), bottom + 16, _plain(value)))
    parts.append(_below((_LEFT + right) / 2, _HEIGHT - 6, x_label))
    middle = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 12 {middle})" x="12" y="{middle}"'
    parts.append(f'<text {turned} text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _upper(labels: Sequence[tuple[float, str]], place_x: Callable[[float], float]) -> list[str]:
    """Labels above the picture from left to right, those left out that would touch the one before."""
    parts, free = [], 0.0
    for x, label in labels:
        half = _LETTER * len(label) / 2
        at = min(max(place_x(x), half), _WIDTH - half)
        if at - half >= free:
            parts.append(_below(at, _TOP + 3, label))
            free = at + half + _LETTER
    return parts


def _below(at: float, y: float, text: str) -> str:
    """Text centred at `at`, or as near to it as the picture's sides allow."""
    half = _LETTER * len(text) / 2
    return f'<text x="{min(max(at, half), _WIDTH - half):.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _scale(low: float, high: float, start: float, end: float, *, log: bool = False) -> Callable[[float], float]:
    lower, upper = (math.log(low), math.log(high)) if log else (low, high)
    span = (upper - lower) or 1.0

    def place(value: float) -> float:
        at = math.log(value) if log else value
        return round(start + (end - start) * (at - lower) / span, 1)

    return place


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def _points(
    pairs: Sequence[tuple[float, float]], place_x: Callable[[float], float], place_y: Callable[[float], float]
) -> str:
    return " ".join(f"{place_x(x)},{place_y(y)}" for x, y in pairs)


def _svg(parts: Sequence[str], title: str, height: float) -> str:
    name = escape(title)
    head = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{name}"><title>{name}</title>'
    return head + "".join(parts) + "</svg>"


def _legend(lines: Sequence[Line]) -> str:
    if len(lines) < 2:
        return ""
    rows = []
    for number, line in enumerate(lines):
        colour = f"c{number if line.colour is None else line.colour}"
        shape = (
            f'<circle class="dot {colour}" cx="20" cy="5" r="4"/>'
            if line.dots
            else f'<line class="curve {colour}{" dashed" if line.dashed else ""}" x1="0" x2="40" y1="5" y2="5"/>'
        )
        rows.append(f'<li><svg viewBox="0 0 40 10" aria-hidden="true">{shape}</svg>{escape(line.label)}</li>')
    return f'<ul class="legend">{"".join(rows)}</ul>'


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
