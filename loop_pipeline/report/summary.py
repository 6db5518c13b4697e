"""The one screen at the end of a turn: at most 40 lines of 100 columns.

Not here: the page (``page.py``).
"""

from __future__ import annotations

from textwrap import wrap

from loop_pipeline.report.numbers import (
    LEXICAL,
    Agreement,
    GroupNumbers,
    LoopNumbers,
    load_sentence,
    percent,
)

WIDTH, MAX_GROUPS, MAX_TASKS, MAX_NOTES = 100, 10, 4, 3


def summary(numbers: LoopNumbers) -> str:
    """Plain text for the terminal. Every block of simulated figures says so in its heading."""
    blocks = {
        "Traffic": _traffic(numbers),
        "Student on held-out requests": _student(numbers),
        "Coverage": _coverage(numbers),
        "Cost": _costs(numbers),
        "Served": _served(numbers),
    }
    mark = " (simulated)" if numbers.simulated else ""
    lines = [numbers.title + mark, "=" * min(WIDTH, len(numbers.title + mark))]
    for warning in numbers.warnings:
        lines += wrap(f"Warning: {warning}", WIDTH)
    for heading, body in blocks.items():
        if body:
            lines += [heading + mark, *(f"  {line}" for line in body)]
    lines += [f"Note: {note}" for note in numbers.notes[:MAX_NOTES]]
    return "\n".join(_cut(line, WIDTH) for line in lines)


def _cut(text: str, width: int) -> str:
    flat = " ".join(text.split("\n")).rstrip()
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _traffic(numbers: LoopNumbers) -> list[str]:
    pairs = " · ".join(f"{kind} {count:,}" for kind, count in sorted(numbers.pairs.items()))
    return [
        f"{numbers.traces:,} traces over {numbers.days} days · {numbers.quarantined:,} quarantined"
        f" · {numbers.flags:,} flagged ({percent(numbers.flagged_share)})",
        f"pairs: {pairs or 'none'}",
    ]


def _student(numbers: LoopNumbers) -> list[str]:
    if numbers.agreement is None:
        return [f"no agreement: {numbers.why('agreement')}"]
    lines = [_agreement(numbers.agreement, numbers.agreement_name)]
    lines += [
        _agreement(task, f"{task.name}: {LEXICAL if task.lexical else 'agreement'}")
        for task in numbers.agreement_by_task[:MAX_TASKS]
    ]
    if (reference := numbers.agreement.reference) is not None:
        lines.append(f"beside it, {numbers.reference_name or 'reference'}: {percent(reference)}")
    return lines


def _agreement(found: Agreement, name: str) -> str:
    return (
        f"{_cut(name, 66):<66} {percent(found.value):>6} "
        f"[{percent(found.low)}, {percent(found.high)}] n={found.n:,}"
    )


def _coverage(numbers: LoopNumbers) -> list[str]:
    found = numbers.coverage
    if found is None:
        return [f"no certificate: {numbers.why('coverage')}"]
    lines = [
        f"promise: {found.target:.0%} agreement in every group, broken with chance"
        f" {found.delta:.0%} at most",
        f"certified {percent(found.certified)} of all requests · achieved {percent(found.achieved)}"
        f" at {percent(found.achieved_agreement)} agreement",
    ]
    if found.uncertified is not None:
        lines.append(f"without certificate {percent(found.uncertified)}, but nothing is promised")
    lines.append(
        f"{'group':<40}{'size':>7}  {'arm':<9}{'covered':>8}{'agree':>8}{'at least':>9}{'cost':>8}"
    )
    shown = sorted(numbers.groups, key=lambda group: -group.size)[:MAX_GROUPS]
    lines += [_group(group) for group in shown]
    if more := len(numbers.groups) - len(shown):
        lines.append(f"and {more} smaller groups in the report")
    if any(group.lexical for group in shown):
        lines.append(f"* {LEXICAL}")
    return lines


def _group(group: GroupNumbers) -> str:
    name = _cut(group.name, 37) + (" *" if group.lexical else "")
    return (
        f"{name:<40}{group.size:>7,}  {group.arm:<9}{percent(group.coverage):>8}"
        f"{percent(group.agreement):>8}{percent(group.agreement_low):>9}"
        f"{percent(group.cost_ratio):>8}"
    )


def _costs(numbers: LoopNumbers) -> list[str]:
    costs = numbers.costs
    if costs is None:
        return [f"no cost figures: {numbers.why('costs')}"]
    return [
        f"covered requests {percent(costs.covered_ratio)} of the frontier's bill · "
        f"whole workload (blended) {percent(costs.blended_ratio)}",
        f"with shadow calls, training and review: {percent(costs.loaded_ratio)}",
        load_sentence(costs),
    ]


def _served(numbers: LoopNumbers) -> list[str]:
    lines = []
    if numbers.served:
        lines += [f"asked: {numbers.served.question}", f"answered: {numbers.served.answer}"]
    ids = {
        "adapter": numbers.student_adapter,
        "policy": (numbers.policy_sha or "")[:12],
        "MLflow run": numbers.mlflow_run_id,
    }
    named = " · ".join(f"{name} {value}" for name, value in ids.items() if value)
    return [*lines, named] if named else lines
