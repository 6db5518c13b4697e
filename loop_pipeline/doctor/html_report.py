"""The doctor's report as a page: one file, no script and no request to anywhere.

Not here: its tables of words (``terminal_report.py``).
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from loop_pipeline.doctor.diagnosis import POLICY, Diagnosis
from loop_pipeline.doctor.terminal_report import (
    comparisons_table,
    curves_table,
    facts,
    groups_table,
    models_table,
    reasons,
    routers_table,
)
from loop_pipeline.report.markup import card, legend, table
from loop_pipeline.report.pictures.svg import Axis, Line, Range, colour, line_chart, range_chart

_DASHED = ("random", "oracle")
_PAINT = {"broken": "var(--c3)", "in doubt": "var(--c1)"}


def page(report: Diagnosis) -> str:
    """The report as a self-contained HTML document."""
    style = (Path(__file__).parents[1] / "report" / "page.css").read_text(encoding="utf-8")
    warnings = "".join(f'<p class="banner">{escape(line)}</p>' for line in report.warnings)
    sections = [
        f"<h1>Does the router earn its keep?</h1>"
        f'<div class="facts"><span>{escape(report.source)}</span></div>'
        f'<p class="verdict">{escape(report.verdict)}</p>{warnings}',
        card(
            "The policy and its controls, on the same requests",
            table(*routers_table(report))
            + '<p class="soft">Of the random router the intervals are over its own draws.</p>'
            + (table(*comparisons_table(report)) if report.comparisons else ""),
        ),
        f'<div class="grid2">{card("Quality for money", _trade(report))}'
        f"{card('Risk and coverage', _risk(report))}</div>",
        card("Promised and achieved, by group", _achieved(report)),
        _groups(report),
        card("Each model alone", table(*models_table(report))),
        _rankings(report),
        card("What the figures rest on", _list(facts(report))),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>loop doctor: {escape(report.source)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _groups(report: Diagnosis) -> str:
    why = reasons(report)
    listed = f'<p class="soft">Why groups go to {escape(report.reference)}:</p>{_list(why)}'
    return card("Groups", table(*groups_table(report), "wrap") + (listed if why else ""))


def _rankings(report: Diagnosis) -> str:
    if not report.curves:
        return ""
    words = (
        f"How much of the way from {report.weak} to {report.reference} a ranking recovers, over "
        "all shares of strong calls (APGR); the share of strong calls that recovers 50 and 80% of "
        "it (CPT); and what 50% costs, of the bill for strong calls alone. 10 bins, as RouteLLM "
        "measures it."
    )
    return card(
        "Rankings without a promise",
        f'<p class="soft">{escape(words)}</p>' + table(*curves_table(report)),
    )


def _padded(values: list[float], floor: float = -1e9, ceiling: float = 1e9) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.01 * abs(high) or 0.01
    return max(floor, low - pad), min(ceiling, high + pad)


def _trade(report: Diagnosis) -> str:
    """Curves of rankings, dots of routers, and the hull of the single models."""
    policy = report.router(POLICY)
    ordered = sorted((m for m in report.models if m.on_hull), key=lambda m: m.usd)
    curves = [
        (curve.name, [(1000 * usd, quality) for _, quality, usd in curve.points])
        for curve in report.curves
    ]
    if len(ordered) > 1 and len(report.models) > 2:  # of two models it is the line of the coin
        line = [(1000 * m.usd, m.quality.value) for m in ordered]
        curves.append(("hull of the single models", line))
    dots = [(m.name, (1000 * m.usd, m.quality.value)) for m in report.models]
    dots.append(("policy", (1000 * policy.usd, policy.quality.value)))
    names = [name for name, _ in [*curves, *dots]]
    lines = [
        Line(name, points, colour(names.index(name)), dashed=name in _DASHED)
        for name, points in curves
    ]
    lines += [
        # The policy is drawn last, and small: it may lie on a model's dot.
        Line(name, [], colour(names.index(name)), at, radius=4.5 if name == "policy" else 7)
        for name, at in dots
    ]
    xs = [x for _, points in curves for x, _ in points] + [x for _, (x, _) in dots]
    ys = [y for _, points in curves for _, y in points] + [y for _, (_, y) in dots]
    chart = line_chart(
        lines,
        Axis("USD per 1,000 requests", *_padded(xs, 0.0), "{:.4g}".format),
        Axis(report.measure, *_padded(ys, 0.0, 1.02), "{:.1%}".format),
    )
    caption = "Dots: the models alone and the policy."
    if report.curves:
        hull = "; the random one is the hull" if len(report.models) == 2 else ""
        caption = (
            "Lines: rankings of the requests at every share of strong calls, without a promise"
            f"{hull}. {caption}"
        )
    return _figure(caption, chart, legend(names, names))


def _risk(report: Diagnosis) -> str:
    if not report.risk_coverage or report.weak == report.reference:
        return '<p class="none">Not here: no model is cheaper than the best one.</p>'
    limit, point = 1 - report.target, report.certified_point
    risks = [risk for _, risk in report.risk_coverage]
    names = [f"{report.weak}, by its score", "policy"]
    lines = [Line(names[0], report.risk_coverage, colour(0))]
    if point is not None:
        lines.append(Line(names[1], [], colour(1), point))
    high = min(max(*risks, limit), max(6 * limit, 1.5 * risks[-1]))
    chart = line_chart(
        lines,
        Axis("share that goes to a cheaper model", 0, 1, "{:.0%}".format),
        Axis("disagreement among these", 0, max(1.05 * high, 0.01), "{:.1%}".format),
        level=limit,
    )
    caption = (
        f"Disagreement as {report.weak} answers more, the surest first; the dotted line is the "
        f"{limit:.0%} that is promised. "
    )
    caption += "The dot is the certified policy." if point else "Nothing is certified."
    return _figure(caption, chart, legend(names[: len(lines)], names))


def _achieved(report: Diagnosis) -> str:
    shown = [g for g in report.groups if g.achieved is not None]
    if not shown:
        return '<p class="none">Not here: no group was served by a cheaper model.</p>'
    rows = [
        Range(
            name=group.name,
            low=group.achieved.low,
            value=group.achieved.value,
            high=group.achieved.high,
            mark=group.certified_agreement,
            colour=_PAINT.get(group.verdict, "var(--c2)"),
        )
        for group in shown
        if group.achieved is not None
    ]
    values = [v for row in rows for v in (row.low, row.high, row.mark or row.low)]
    low, _ = _padded([*values, report.target], 0.0)
    chart = range_chart(rows, Axis("agreement", low, 1.0, "{:.1%}".format), level=report.target)
    meanings = {
        "c2": "achieved, 95% interval",
        "c1": "achieved, below the promise, which may be chance",
        "c3": "achieved, promise broken",
        "c0": "certified: at least",
    }
    marks = "".join(
        f'<span><i class="key" style="background:var(--{paint})"></i>{words}</span>'
        for paint, words in meanings.items()
    )
    keys = f'<div class="legend">{marks}</div>'
    caption = (
        f"Agreement of what was served, on rows that nothing was fitted on; the dotted line is the "
        f"promised {report.target:.0%}."
    )
    return _figure(caption, chart, keys)


def _figure(caption: str, chart: str, keys: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}{keys}</figure>"
