"""The doctor's report as tables of words, for the terminal and the page.

Not here: plots (``html_report.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from loop_pipeline.doctor.controls import Interval
from loop_pipeline.doctor.diagnosis import Diagnosis, share

Table = tuple[list[str], list[list[str]]]


def routers_table(report: Diagnosis) -> Table:
    """The policy and its controls."""
    rows = [
        [
            line.name,
            f"{line.share_away:.1%}",
            share(line.agreement),
            share(line.quality),
            _usd(line.usd),
        ]
        for line in report.routers
    ]
    away = f"away from {report.reference}"
    return ["router", away, "of these agree", report.measure, "USD per 1,000"], rows


def comparisons_table(report: Diagnosis) -> Table:
    """The policy less each control, on the same requests."""
    rows = []
    for line in report.comparisons:
        found = line.difference
        ratio = line.what.startswith("USD")
        value = f"{found.value:.1%}" if ratio else f"{100 * found.value:+.1f} points"
        limits = (
            f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
            if ratio
            else f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        )
        what = "USD, of the control's" if ratio else line.what
        rows.append([line.control, what, f"{value} {limits}"])
    return ["policy beside", "in", "difference, 95%"], rows


def models_table(report: Diagnosis) -> Table:
    """Each model alone, and whether it is worth anything in a mix."""
    rows = []
    for line in report.models:
        place = "on the hull" if line.on_hull else "below the hull"
        if line.dominated_by:
            place = f"{line.dominated_by} is better and cheaper"
        rows.append([line.name, share(line.quality), _usd(line.usd), place])
    return ["model", report.measure, "USD per 1,000", "cost and quality"], rows


def groups_table(report: Diagnosis) -> Table:
    """What was certified, and what was achieved on rows nothing was fitted on."""
    rows = [
        [
            group.name,
            group.model or report.reference,
            f"{group.n:,}",
            f"{group.coverage:.1%}" if group.model else "–",
            "–" if group.certified_agreement is None else f"{group.certified_agreement:.1%}",
            f"{group.served:,} of {group.scored:,}",
            share(group.achieved),
            group.verdict,
        ]
        for group in report.groups
    ]
    heads = ["group", "goes to", "calibration rows", "certified share", "at least", "served"]
    return [*heads, "agreed", "promise"], rows


def curves_table(report: Diagnosis) -> Table:
    """Rankings without any promise, as RouteLLM measures them."""
    rows = [
        [
            curve.name,
            "–" if curve.apgr is None else _plain(curve.apgr, fixed=curve.name == "random"),
            "–" if curve.cpt50 is None else f"{curve.cpt50:.1%}",
            "–" if curve.cpt80 is None else f"{curve.cpt80:.1%}",
            "–" if curve.bill is None else f"{curve.bill:.1%}",
        ]
        for curve in report.curves
    ]
    return ["ranking, no promise", "APGR", "CPT(50)", "CPT(80)", "bill at CPT(50)"], rows


def facts(report: Diagnosis) -> list[str]:
    """What the figures rest on, in sentences."""
    rows = ", ".join(f"{n:,} {name}" for name, n in report.rows.items())
    lines = [
        f"rows: {rows}; nothing was fitted on the rows that are scored",
        f"promise: in each group {report.target:.0%} of what a cheaper model answers is as good as "
        f"the answer of {report.reference}; broken anywhere with chance {report.delta:.0%} at most",
    ]
    if report.self_agreement is None:
        lines.append(f"how often {report.reference} agrees with itself is not known")
    else:
        lines.append(
            f"{report.reference} agrees with itself in {share(report.self_agreement)} of "
            f"{report.self_agreement_pairs:,} requests it answered twice"
        )
    return [*lines, *report.notes]


def reasons(report: Diagnosis) -> list[str]:
    """Why groups go to the reference."""
    return [f"{group.name}: {group.reason}" for group in report.groups if group.model is None]


def text(report: Diagnosis) -> str:
    """The report for a terminal."""
    parts = [report.source, "", report.verdict, *(f"WARNING: {line}" for line in report.warnings)]
    tables = [routers_table, comparisons_table, models_table, groups_table, curves_table]
    for make in tables:
        heads, rows = make(report)
        if rows:
            parts += ["", *_aligned(heads, rows)]
        if make is routers_table:
            parts.append("  of the random router the intervals are over its own draws")
        if make is groups_table:
            parts += [f"  {line}" for line in reasons(report)]
    return "\n".join([*parts, "", *facts(report)])


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _usd(usd: float) -> str:
    return f"{1000 * usd:.4g}" if usd else "0"


def _plain(found: Interval, *, fixed: bool) -> str:
    if fixed:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
