"""Small pictures for the Dagster UI. matplotlib is imported when one is drawn.

Not here: charts of the page (``svg.py``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from loop_pipeline.report.numbers import GroupNumbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f6fde", "#e07b24", "#2a9d68", "#c9475d", "#8059c4", "#158fa8", "#b58a0a", "#d05fa8")
MAX_BYTES = 59_000


def plot_png_markdown(figure: Figure) -> str:
    """A figure as markdown with the picture inside, at most 60 kB. Crowded ones get coarser."""
    from PIL import Image

    code = b""
    for dpi in (80, 55, 30):
        raw, small = io.BytesIO(), io.BytesIO()
        figure.savefig(raw, format="png", dpi=dpi)
        Image.open(raw).convert("RGB").quantize(64).save(small, format="png", optimize=True)
        code = base64.b64encode(small.getvalue())
        if len(code) <= MAX_BYTES:
            break
    return f"![plot](data:image/png;base64,{code.decode()})"


def new_axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure of the report's size, with one pair of labelled axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it hides nothing."""
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))


def plain_name(name: object) -> str:
    """A name that matplotlib neither reads as a formula nor drops for its underscore."""
    return " " + " ".join(str(name).split())[:38].replace("$", r"\$")


def threshold_figure(curve: Sequence[Sequence[float]], point: float | None) -> Figure:
    """Kept share and precision by threshold, with the chosen threshold.

    Args:
        curve: (threshold, kept share, precision[, lower bound of the precision]) by threshold.
        point: the threshold in use; None: none can be promised.
    """
    figure, axes = new_axes("quality score threshold", "share")
    ordered = sorted(curve, key=lambda row: row[0])
    for column, name in ((1, "kept"), (2, "precision"), (3, "precision, at least")):
        line = [(row[0], row[column]) for row in ordered if len(row) > column]
        if line:
            style = ":" if column == 3 else "-"
            axes.plot(*zip(*line, strict=True), style, color=COLOURS[min(column, 2)], label=name)
    if point is not None:
        axes.axvline(point, color=COLOURS[0], ls="--", label=f"in use: {point:.3f}")
    else:
        axes.set_title("no threshold keeps the promise", fontsize=10, loc="left")
    if curve:
        axes.legend(frameon=False)
    return figure


def loss_figure(points: Sequence[tuple[int, float]]) -> Figure:
    """Training loss by optimiser step."""
    figure, axes = new_axes("step", "training loss")
    axes.plot(*zip(*points, strict=True) if points else ((), ()), color=COLOURS[0])
    return figure


def contestants_figure(contestants: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Agreement of each contestant by task, side by side, with exact 95% intervals.

    Args:
        contestants: by name, what `evaluation.metrics.summarise` gives, with ``tasks``.
    """
    figure, axes = new_axes("agreement with the frontier", "")
    tasks = list(dict.fromkeys(t for c in contestants.values() for t in c["tasks"]))[:12]
    for rank, (name, summary) in enumerate(contestants.items()):
        shown = [(i, summary["tasks"][t]) for i, t in enumerate(tasks) if t in summary["tasks"]]
        middle = [part["agreement"] for _, part in shown]
        below = [part["agreement"] - part["agreement_low"] for _, part in shown]
        above = [part["agreement_high"] - part["agreement"] for _, part in shown]
        places = [-i - 0.16 * (rank - (len(contestants) - 1) / 2) for i, _ in shown]
        colour = COLOURS[rank % len(COLOURS)]
        axes.errorbar(
            middle, places, xerr=[below, above], fmt="o", ms=4, color=colour, label=plain_name(name)
        )
    axes.set_yticks(
        [-i for i in range(len(tasks))], [plain_name(task) for task in tasks], fontsize=8
    )
    axes.set_xlim(0, 1.02)
    if contestants:
        legend_above(axes)
    return figure


def reliability_figure(
    bins: Sequence[Mapping[str, Any]],
    said: str = "the model's probability of its whole answer",
    was: str = "agreement",
) -> Figure:
    """What was said against what was, with exact 95% intervals; on the line it can be believed.

    Args:
        bins: dicts of confidence, agreement, low, high and n.
        said: label of the axis of ``confidence``.
        was: label of the axis of ``agreement``.
    """
    figure, axes = new_axes(said, was)
    axes.plot([0, 1], [0, 1], "--", color="#999999", lw=1)
    middle = [row["agreement"] for row in bins]
    # Weighted shares can lie outside the interval of the plain ones.
    spread = [
        [max(0.0, row["agreement"] - row["low"]) for row in bins],
        [max(0.0, row["high"] - row["agreement"]) for row in bins],
    ]
    places = [row["confidence"] for row in bins]
    axes.errorbar(places, middle, yerr=spread, fmt="o", ms=4, color=COLOURS[0])
    for row in bins:
        axes.annotate(f" {row['n']}", (row["confidence"], row["agreement"]), fontsize=7)
    axes.set(xlim=(-0.02, 1.06), ylim=(-0.02, 1.05))
    return figure


def weights_figure(weights: Mapping[str, float], most: int = 16) -> Figure:
    """The signals that move the quality score most, in log-odds a standard deviation."""
    figure, axes = new_axes("log-odds of a good answer, a standard deviation", "")
    top = sorted(weights.items(), key=lambda item: abs(item[1]))[-most:]
    colours = [COLOURS[2] if value > 0 else COLOURS[3] for _, value in top]
    axes.barh([plain_name(name) for name, _ in top], [value for _, value in top], color=colours)
    axes.tick_params(axis="y", labelsize=8)
    return figure


def shares_figure(rows: Mapping[str, Mapping[str, float]], x_label: str) -> Figure:
    """Estimates with their intervals, one line each.

    Args:
        rows: by name, mean, low and high, all from 0 to 1.
        x_label: what is estimated.
    """
    figure, axes = new_axes(x_label, "")
    shown = dict(list(rows.items())[:20])
    for rank, row in enumerate(shown.values()):
        spread = [[max(0.0, row["mean"] - row["low"])], [max(0.0, row["high"] - row["mean"])]]
        axes.errorbar([row["mean"]], [-rank], xerr=spread, fmt="o", ms=4, color=COLOURS[0])
    axes.set_yticks(
        [-rank for rank in range(len(shown))], [plain_name(n) for n in shown], fontsize=8
    )
    axes.set_xlim(0, 1.02)
    return figure


def daily_counts_figure(frame: pd.DataFrame) -> Figure:
    """Rows a day, stacked by kind.

    Args:
        frame: columns day and kind, one row for each thing counted.
    """
    figure, axes = new_axes("", "pairs a day")
    counts = pd.crosstab(frame["day"], frame["kind"]).tail(60)
    bottom = pd.Series(0, index=counts.index)
    for rank, kind in enumerate(counts.columns):
        colour = COLOURS[rank % len(COLOURS)]
        axes.bar(counts.index, counts[kind], bottom=bottom, color=colour, label=plain_name(kind))
        bottom += counts[kind]
    step = max(1, len(counts) // 8)
    axes.set_xticks(range(0, len(counts), step), [str(day)[5:] for day in counts.index[::step]])
    if len(counts):
        legend_above(axes)
    return figure


def cost_coverage_figure(groups: Sequence[GroupNumbers]) -> Figure:
    """Coverage and cost beside the frontier's, by group."""
    figure, axes = new_axes("share", "")
    shown = sorted(groups, key=lambda group: group.size)[-12:]
    rows = list(range(len(shown)))
    covered = [group.coverage for group in shown]
    cost = [group.cost_ratio or 0 for group in shown]
    axes.barh([r + 0.2 for r in rows], covered, 0.38, color=COLOURS[0], label="covered")
    axes.barh(
        [r - 0.2 for r in rows], cost, 0.38, color=COLOURS[1], label="cost, of the frontier's"
    )
    axes.set_yticks(rows, [plain_name(group.name) for group in shown], fontsize=8)
    axes.set_xlim(0, max([1.0, *cost]))
    legend_above(axes)
    return figure
