"""The tables at the end of the report: every group, and where the figures come from.

The page around them is in ``page``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from loop_pipeline.confidence.ceiling import NOT_MEASURED
from loop_pipeline.costs.list_prices import list_version
from loop_pipeline.report.markup import Html, bar, card, key, nothing, table
from loop_pipeline.report.numbers import LEXICAL, GroupNumbers, LoopNumbers, percent


def groups_table(numbers: LoopNumbers, names: Sequence[str]) -> str:
    """The promise of every task group."""
    mark = " (simulated)" if numbers.simulated else ""
    if not numbers.groups:
        return card("Cost and coverage by group" + mark, nothing(numbers, "groups"))
    ordered = sorted(numbers.groups, key=lambda group: -group.size)
    bars = "".join(
        f'<div class="name">{key(g.name, names)}</div>'
        f"{bar(g.coverage, 'var(--c2)')}{bar(g.cost_ratio, 'var(--c1)')}"
        for g in ordered
    )
    heads = ["group", "requests", "arm", "threshold", "agreement", "at least", "ceiling"]
    heads += ["covered", "most possible", "calibration rows"]
    figures = table([*heads, "frontier $/1k", "routed $/1k"], [_row(g) for g in ordered])
    reasons = "".join(
        f"<li>{escape(g.name)}: {escape(g.reason)}</li>"
        for g in ordered
        if g.arm == "frontier" and g.reason
    )
    why = f'<p class="soft">Not certified, so the frontier answers:</p><ul>{reasons}</ul>'
    star = f'<p class="soft">* {LEXICAL}</p>' if any(g.lexical for g in ordered) else ""
    return card(
        "Cost and coverage by group" + mark,
        '<p class="soft">Ceiling: how often the frontier agrees with itself. Covered: share of a '
        "group that the student answers; most possible: what no method could go beyond with this "
        "student. Cost: what the group costs as routed, escalations and wasted student calls "
        "included, as a share of the frontier's bill for it.</p>"
        '<div class="bars"><div class="head"></div><div class="head">covered by the student</div>'
        f'<div class="head">cost, of the frontier\'s</div>{bars}</div>{figures}{star}'
        + (why if reasons else ""),
    )


def _row(group: GroupNumbers) -> list[str]:
    return [
        group.name + (" *" if group.lexical else ""),
        f"{group.size:,}",
        group.arm,
        "–" if group.threshold is None else f"{group.threshold:.3f}",
        percent(group.agreement),
        percent(group.agreement_low),
        percent(group.ceiling.value) if group.ceiling else NOT_MEASURED,
        percent(group.coverage),
        percent(group.most),
        f"{group.n:,}",
        "unpriced" if group.frontier_usd is None else f"{group.frontier_usd * 1000:.3f}",
        "–" if group.routed_usd is None else f"{group.routed_usd * 1000:.3f}",
    ]


def sources_table(numbers: LoopNumbers) -> str:
    """Where the figures come from."""

    def code(value: str | None) -> Html:
        return Html(f"<code>{escape(value)}</code>" if value else "–")

    rows = [
        ["traces, days, quarantined", "tables traces, quarantine", code(None)],
        ["pairs, flags", "tables labeled_pairs, hallucination_flags", code(None)],
        ["quality score", "table quality_models", code(numbers.quality_version)],
        ["training set", "tables datasets, dataset_rows", code(numbers.dataset_id)],
        ["training loss", "MLflow run", code(numbers.mlflow_run_id)],
        ["agreement", "table student_answers, split gold", code(numbers.checkpoint_id)],
        ["coverage, groups, thresholds", "table policies, bundle", code(numbers.policy_sha)],
        ["deployed student", "table deployments", code(numbers.student_adapter)],
        [
            "frontier's bill",
            "table traces, cost_usd: as logged, else by LOOP_PRICES_FILE and list prices",
            code(numbers.prices or list_version()),
        ],
    ]
    origins = table(["number", "from", "id"], rows, "words")
    notes = "".join(f"<li>{escape(note)}</li>" for note in numbers.notes)
    timings = " · ".join(f"{name} {seconds:,.0f} s" for name, seconds in numbers.timings.items())
    return (
        (card("Notes", f"<ul>{notes}</ul>") if notes else "")
        + card("Where each number comes from", origins)
        + (f'<footer class="soft">{escape(timings)}</footer>' if timings else "")
    )
