"""Pictures of experiments as SVG by matplotlib: the same result gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = (
    "#2f6db3",
    "#c8553d",
    "#3a8f5c",
    "#8a5fb0",
    "#b8860b",
    "#4b5563",
    "#0e9aa7",
    "#d17ba5",
    "#7a9a01",
    "#1f2937",
    "#e58606",
    "#5d69b1",
    "#99582a",
    "#cc3a8e",
    "#52bca3",
)
"""Told apart on light and dark paper."""


@dataclass(frozen=True)
class Curve:
    """Points with intervals, joined by a line."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    dots: bool = True
    colour: str | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    names: Sequence[str] = ()
    """What x = 0, 1, 2, ... stand for; they are written down the side then, and values run along the bottom."""


def draw(panels: Sequence[Panel], *, columns: int = 3, width: float = 3.4, height: float = 2.9) -> str:
    """Panels side by side (width and height of each in inches), one legend for all; one label has one colour."""

    def paint(figure: Any) -> None:
        rows = -(-len(panels) // columns)
        axes = figure.subplots(rows, min(columns, len(panels)), squeeze=False)
        labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
        colours = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
        lines: dict[str, Any] = {}
        above: Sequence[str] = ()
        for panel, at in zip(panels, axes.flat, strict=False):
            for number, curve in enumerate(panel.curves):
                if panel.names and curve.low is not None and curve.high is not None:
                    lines[curve.label] = _whiskers(at, curve, colours[curve.label], number, len(panel.curves))
                    continue
                colour = curve.colour or colours[curve.label]
                style: dict[str, Any] = {"linestyle": "--", "linewidth": 1} if curve.dashed else {}
                style |= {"marker": "o", "markersize": 3.5} if curve.dots and not curve.dashed else {}
                (lines[curve.label],) = at.plot(curve.x, curve.y, color=colour, label=curve.label, **style)
                if curve.low is not None and curve.high is not None:
                    at.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            _dress(at, panel)
            if panel.names:
                shown = panel.names if panel.names != above else [""] * len(panel.names)
                at.set_yticks(range(len(panel.names)), shown)
                at.invert_yaxis()
            above = panel.names
        for at in axes.flat[len(panels) :]:
            at.set_visible(False)
        fitting = int(figure.get_figwidth() * 14 / (max(map(len, lines)) + 8))  # some 14 letters to the inch
        across = min(max(1, fitting), len(lines))
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=across, frameon=False)

    rows = -(-len(panels) // columns)
    return svg(paint, width=width * min(columns, len(panels)) + 0.4, height=height * rows + 0.7)


def svg(paint: Callable[[Any], None], *, width: float, height: float) -> str:
    """What `paint` draws on a matplotlib figure of this size in inches, as SVG text without dates or random names."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": "tacit",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        out = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _whiskers(axes: Any, curve: Curve, colour: str, number: int, among: int) -> Any:
    """Points with intervals beside those of the other curves, not joined: names have no order."""
    shift = 0.6 * ((number + 0.5) / among - 0.5)
    lows, highs = curve.low or (), curve.high or ()
    errors = [
        [value - low for value, low in zip(curve.y, lows, strict=True)],
        [high - value for value, high in zip(curve.y, highs, strict=True)],
    ]
    places = [x + shift for x in curve.x]
    return axes.errorbar(curve.y, places, xerr=errors, fmt="o", markersize=3.5, elinewidth=1.2, color=colour)


def _dress(axes: Any, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.y_label if panel.names else panel.x_label)
    axes.set_ylabel("" if panel.names else panel.y_label)
    axes.grid(True, alpha=0.25)
    if panel.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if panel.log_y:
        axes.set_yscale("log")
    if panel.y_range is not None:
        (axes.set_xlim if panel.names else axes.set_ylim)(*panel.y_range)
