"""Pictures of task groups and of the models on them.

What all pictures share is in ``plots``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from loop_pipeline.report.numbers import UNASSIGNED
from loop_pipeline.report.pictures.plots import COLOURS, legend_above, new_axes, plain_name


def cluster_figure(points: pd.DataFrame) -> Figure:
    """Requests on the map, coloured by task group. The largest eight groups are named.

    Args:
        points: columns x, y and name; a missing name means unassigned.
    """
    figure, axes = new_axes("", "")
    groups = points["name"].fillna(UNASSIGNED)
    for rank, (name, count) in enumerate(groups.value_counts().items()):
        rows = points[groups == name]
        rows = rows.iloc[:: -(-len(points) // 1500)]  # an even sample, small groups included
        label = f"{plain_name(name)} ({count})" if rank < len(COLOURS) else None
        colour = COLOURS[rank] if rank < len(COLOURS) else "#999999"
        axes.scatter(rows["x"], rows["y"], s=6, color=colour, label=label, linewidths=0)
    axes.set_axis_off()
    if len(points):
        axes.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, markerscale=3
        )
    return figure


def group_counts_figure(frame: pd.DataFrame) -> Figure:
    """Rows by group, stacked by kind; the largest 20 groups.

    Args:
        frame: columns group and kind, one row for each thing counted.
    """
    figure, axes = new_axes("pairs", "")
    counts = pd.crosstab(frame["group"], frame["kind"])
    counts = counts.loc[counts.sum(axis=1).sort_values().index[-20:]]
    names, left = [plain_name(name) for name in counts.index], pd.Series(0, index=counts.index)
    for rank, kind in enumerate(counts.columns):
        colour = COLOURS[rank % len(COLOURS)]
        axes.barh(names, counts[kind], left=left, color=colour, label=plain_name(kind))
        left += counts[kind]
    axes.tick_params(axis="y", labelsize=8)
    if len(counts):
        legend_above(axes)
    return figure


def best_model_figure(stats: pd.DataFrame, names: pd.DataFrame) -> Figure:
    """Quality of each model by group, with 95% intervals, on rows that may be compared.

    Args:
        stats: ``group_model_stats``.
        names: columns group_id and name.
    """
    figure, axes = new_axes("share of good answers, 95% interval", "")
    fair = stats[stats["comparable"].astype(bool) & stats["quality"].notna()]
    largest = fair.groupby("group_id")["requests"].max().sort_values(ascending=False).index[:12]
    called = names.set_index("group_id")["name"].to_dict()
    models = sorted(set(fair["model"]))
    for rank, model in enumerate(models):
        own = fair[fair["model"] == model].set_index("group_id").reindex(largest).astype(object)
        middle = own["quality"].astype(float)
        spread = [
            (middle - own["quality_low"].astype(float)).clip(lower=0),
            (own["quality_high"].astype(float) - middle).clip(lower=0),
        ]
        places = [-i - 0.16 * (rank - (len(models) - 1) / 2) for i in range(len(largest))]
        colour = COLOURS[rank % len(COLOURS)]
        axes.errorbar(
            middle, places, xerr=spread, fmt="o", ms=4, color=colour, label=plain_name(model)
        )
    labels = [plain_name(called.get(group, group)) for group in largest]
    axes.set_yticks([-i for i in range(len(largest))], labels, fontsize=8)
    axes.set_xlim(0, 1.02)
    if models:
        legend_above(axes)
    else:
        axes.set_title("no rows that compare two models yet", fontsize=10, loc="left")
    return figure
