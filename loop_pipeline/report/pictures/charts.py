"""The charts of the page: which figures go into which picture, and what its caption says.

Not here: drawing (``svg.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from loop_pipeline.report.markup import card, legend, nothing
from loop_pipeline.report.numbers import LoopNumbers, QualityCurve
from loop_pipeline.report.pictures.svg import Axis, Line, colour, line_chart, scatter


def chart_cards(numbers: LoopNumbers, names: Sequence[str]) -> str:
    """The four charts, two by two on a wide screen.

    Args:
        numbers: what to show.
        names: the groups in the order of their colours.
    """
    figures = {
        "Threshold and certificate": _risk(numbers, names),
        "Cluster map": _map(numbers, names),
        "Training loss": _loss(numbers),
        "Quality score": _quality(numbers),
    }
    mark = " (simulated)" if numbers.simulated else ""
    return (
        '<div class="grid2">'
        + "".join(card(name + mark, body) for name, body in figures.items())
        + "</div>"
    )


def _figure(caption: str, chart: str, legend: str = "") -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}{legend}</figure>"


def _risk(numbers: LoopNumbers, names: Sequence[str]) -> str:
    curves = [curve for curve in numbers.risk_curves if curve.points]
    if not curves:
        return nothing(numbers, "curves")
    limit = 1 - numbers.coverage.target if numbers.coverage else None
    top = max(risk for curve in curves for _, risk in curve.points)
    high = min(top, 4 * limit) if limit else top
    paint = {name: colour(rank) for rank, name in enumerate(names)}
    lines = [
        Line(curve.group, curve.points, paint.get(curve.group, "var(--faint)"), curve.certified)
        for curve in curves
    ]
    chart = line_chart(
        lines,
        Axis("share of the group that the student answers", 0, 1, "{:.0%}".format),
        Axis("disagreement", 0, max(high, 0.01), "{:.0%}".format),
        level=limit,
    )
    dotted = f" The dotted line is the {limit:.0%} that is promised." if limit else ""
    caption = "Disagreement with the frontier as the threshold loosens; a dot is what is certified."
    return _figure(caption + dotted, chart, legend([curve.group for curve in curves], names))


def _map(numbers: LoopNumbers, names: Sequence[str]) -> str:
    if not numbers.clusters:
        return nothing(numbers, "clusters")
    present = {point[2] for point in numbers.clusters}
    shown = [name for name in names if name in present]
    caption = (
        f"{len(numbers.clusters):,} requests by the likeness of their text; colours are groups."
    )
    return _figure(caption, scatter(numbers.clusters, shown), legend(shown, names))


def _loss(numbers: LoopNumbers) -> str:
    points = [(float(step), loss) for step, loss in numbers.loss if math.isfinite(loss)]
    if not points:
        return nothing(numbers, "loss")
    steps, values = [step for step, _ in points], [loss for _, loss in points]
    line = Line("training loss", points, "var(--c0)")
    chart = line_chart(
        [line],
        Axis("optimiser step", min(0, *steps), max(steps), "{:,.0f}".format),
        Axis("loss", 0, max(values)),
    )
    return _figure(
        f"Loss on the completion tokens: {values[0]:.3f} at first, {values[-1]:.3f} at last.",
        chart,
    )


def _quality(numbers: LoopNumbers) -> str:
    if not numbers.quality:
        return nothing(numbers, "quality")
    drawn, *others = sorted(numbers.quality, key=lambda curve: not curve.points)
    if not drawn.points:
        return nothing(numbers, "quality")
    also = "".join(f"<li>{escape(c.name)}: {escape(c.reason)}</li>" for c in others)
    return _quality_curve(drawn) + (f"<ul>{also}</ul>" if also else "")


def _quality_curve(curve: QualityCurve) -> str:
    """What each threshold of a task keeps, and how good that is."""
    rows = sorted(curve.points, key=lambda row: row[0])
    columns = ["kept", "precision", "precision, at least"][: min(map(len, rows)) - 1]
    paints = ["var(--c1)", "var(--c2)", "var(--c2)"]
    at = curve.threshold
    chosen = min(
        rows if at is not None else [], key=lambda row: abs(row[0] - (at or 0.0)), default=None
    )
    lines = [
        Line(
            name,
            [(row[0], row[i]) for row in rows],
            paints[i - 1],
            (chosen[0], chosen[i]) if chosen and i < 3 else None,
            dashed=i == 3,
        )
        for i, name in enumerate(columns, start=1)
    ]
    chart = line_chart(
        lines,
        Axis("threshold on P(good)", rows[0][0], rows[-1][0], "{:.2g}".format),
        Axis("share", 0, 1, "{:.0%}".format),
    )
    keys = "".join(
        f'<span><i class="key" style="background:{paints[i]}"></i>{name}</span>'
        for i, name in enumerate(columns[:2])
    )
    dashed = "<span>dashed: lower bound</span>" if len(columns) > 2 else ""
    caption = f"{curve.name}: {curve.reason}."
    return _figure(caption, chart, f'<div class="legend">{keys}{dashed}</div>')
