"""Charts as inline SVG, coloured by the page's CSS variables.

Not here: which figures they show (``charts.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 520
HEIGHT = 320
LEFT = 58
RIGHT = 26
TOP = 14
BOTTOM = 52
PLOT_WIDTH = WIDTH - LEFT - RIGHT
PLOT_HEIGHT = HEIGHT - TOP - BOTTOM
MAX_POINTS = 400
N_COLOURS = 8


@dataclass(frozen=True)
class Line:
    """One curve. ``mark`` is a point on it worth a dot of this radius."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    mark: tuple[float, float] | None = None
    dashed: bool = False
    radius: float = 6


@dataclass(frozen=True)
class Range:
    """An estimate with its interval, and a bound (``mark``) that was promised for it."""

    name: str
    low: float
    value: float
    high: float
    mark: float | None
    colour: str


@dataclass(frozen=True)
class Axis:
    """Range and labels of one axis."""

    label: str
    low: float
    high: float
    show: Callable[[float], str] = "{:g}".format

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high end."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[float]:
        """About five round values inside the range."""
        raw = ((self.high - self.low) or 1.0) / 5
        power = 10 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def colour(rank: int) -> str:
    """Colour of the n-th largest group; all further ones are grey."""
    return f"var(--c{rank})" if rank < N_COLOURS else "var(--faint)"


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, *, level: float | None = None) -> str:
    """Curves with their marked points, over an optional dashed horizontal level."""
    body = ""
    if level is not None:
        at = f"{(1 - y.share(level)) * PLOT_HEIGHT:.1f}"
        body += f'<line class="level" x1="0" x2="{PLOT_WIDTH}" y1="{at}" y2="{at}"/>'
    for line in lines:
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        stride = max(1, -(-len(line.points) // MAX_POINTS))
        path = " ".join(_at(x, y, *point) for point in line.points[::stride])
        body += f'<polyline points="{path}" style="stroke:{line.colour}"{dash}/>'
    # Dots last and unclipped by later curves: they are what the chart is about.
    for line in lines:
        if line.mark:
            cx, cy = _at(x, y, *line.mark).split(",")
            body += f'<circle class="dot" cx="{cx}" cy="{cy}" r="{line.radius:g}" '
            body += f'style="fill:{line.colour}">'
            body += f"<title>{escape(line.name)}</title></circle>"
    return _frame(f"{y.label} by {x.label}", _grid(x, y) + _clip(body))


def range_chart(rows: Sequence[Range], x: Axis, *, level: float) -> str:
    """Estimates with intervals, a line each, over a dotted level; wide, names at the left."""
    left, right, step, wide = 230, 36, 26, 1000
    height = step * len(rows) + 40

    def at(value: float) -> str:
        return f"{left + min(max(x.share(value), 0), 1) * (wide - left - right):.1f}"

    parts = []
    for value in x.ticks():
        parts.append(f'<line class="grid" x1="{at(value)}" x2="{at(value)}" y1="4"')
        parts.append(f' y2="{height - 34}"/><text x="{at(value)}" y="{height - 14}" ')
        parts.append(f'text-anchor="middle">{escape(x.show(value))}</text>')
    parts.append(f'<line class="level" x1="{at(level)}" x2="{at(level)}" y1="4" ')
    parts.append(f'y2="{height - 34}"/>')
    for rank, row in enumerate(rows):
        y = 6 + step * (rank + 0.5)
        name = row.name if len(row.name) <= 32 else f"{row.name[:31]}…"
        parts.append(f'<text x="{left - 12}" y="{y + 5}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="range" x1="{at(row.low)}" x2="{at(row.high)}" y1="{y}" ')
        parts.append(f'y2="{y}" style="stroke:{row.colour}"/><circle class="dot" ')
        parts.append(f'cx="{at(row.value)}" cy="{y}" r="5" style="fill:{row.colour}"/>')
        if row.mark is not None:
            parts.append(f'<line class="mark" x1="{at(row.mark)}" x2="{at(row.mark)}" ')
            parts.append(f'y1="{y - 9}" y2="{y + 9}"/>')
    view = f'viewBox="0 0 {wide} {height}"'
    body = "".join(parts)
    return f'<svg class="chart" {view} role="img" aria-label="{escape(x.label)}">{body}</svg>'


def scatter(points: Sequence[tuple[float, float, str]], names: Sequence[str]) -> str:
    """Points coloured by group. The axes of the map mean nothing and are left out."""
    x = Axis("", min(p[0] for p in points), max(p[0] for p in points))
    y = Axis("", min(p[1] for p in points), max(p[1] for p in points))
    body = ""
    for rank, name in enumerate(names):
        circles = "".join(
            f'<circle cx="{12 + x.share(px) * (WIDTH - 24):.1f}" '
            f'cy="{12 + (1 - y.share(py)) * (HEIGHT - 24):.1f}" r="2.6"/>'
            for px, py, group in points
            if group == name
        )
        body += f'<g style="fill:{colour(rank)}"><title>{escape(name)}</title>{circles}</g>'
    return _frame("map of the requests by task group", f'<g class="points">{body}</g>')


def _at(x: Axis, y: Axis, px: float, py: float) -> str:
    return f"{x.share(px) * PLOT_WIDTH:.1f},{(1 - y.share(py)) * PLOT_HEIGHT:.1f}"


def _clip(body: str) -> str:
    """A nested viewport clips without an id that would have to be unique on the page."""
    place = f'x="{LEFT}" y="{TOP}" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}"'
    return f'<svg {place} class="curves">{body}</svg>'


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for value in y.ticks():
        at = TOP + (1 - y.share(value)) * PLOT_HEIGHT
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}"')
        parts.append(f' y2="{at:.1f}"/><text x="{LEFT - 8}" y="{at + 5:.1f}" ')
        parts.append(f'text-anchor="end">{escape(y.show(value))}</text>')
    for value in x.ticks():
        at = LEFT + x.share(value) * PLOT_WIDTH
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 19}" ')
        parts.append(f'text-anchor="middle">{escape(x.show(value))}</text>')
    parts.append(f'<text class="axis" x="{LEFT + PLOT_WIDTH / 2}" y="{HEIGHT - 6}" ')
    parts.append(f'text-anchor="middle">{escape(x.label)}</text>')
    return "".join(parts)


def _frame(label: str, body: str) -> str:
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg class="chart" {view} role="img" aria-label="{escape(label)}">{body}</svg>'
