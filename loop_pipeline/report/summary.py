"""The one screen at the end of a turn: at most 40 lines of 100 columns.

Not here: the page (``page.py``).
"""

from __future__ import annotations

from textwrap import wrap

from loop_pipeline.confidence.ceiling import NOT_MEASURED, ceiling_words
from loop_pipeline.report.next_step import next_step
from loop_pipeline.report.numbers import (
    LEXICAL,
    Agreement,
    GroupNumbers,
    LoopNumbers,
    lessons,
    money,
    percent,
)
from loop_pipeline.report.words.cost_words import extras_words, load_sentence
from loop_pipeline.report.words.promise_words import promise_sentence
from loop_pipeline.settings import LoopSettings
from loop_pipeline.whole_file import read_model


def show(settings: LoopSettings) -> None:
    """Print the newest report's summary and how to look further."""
    folder = settings.artifacts / "report"
    if not (folder / "numbers.json").exists():
        raise FileNotFoundError(f"no report yet in {folder}: materialize loop_report")
    numbers = read_model(
        folder / "numbers.json", LoopNumbers, mend="materialize loop_report to write it anew"
    )
    home = settings.home.absolute()
    print(f"\n{summary(numbers)}\n")
    print(f"report    {folder / 'report.html'}")
    print(f"browse    LOOP_HOME={home} .venv/bin/loop ui       (Dagster and MLflow)")
    print(f"student   LOOP_HOME={home} .venv/bin/loop serve    (the model behind an API)")


WIDTH = 100
MAX_GROUPS = 6
MAX_TASKS = 4
MAX_NOTES = 2


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
    lines += wrap(f"Next: {next_step(numbers)}", WIDTH)
    return "\n".join(_cut(line, WIDTH) for line in lines)


def _cut(text: str, width: int) -> str:
    flat = " ".join(text.split("\n")).rstrip()
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _traffic(numbers: LoopNumbers) -> list[str]:
    return [
        f"{numbers.traces:,} answers over {numbers.days} days; {numbers.quarantined:,} lines could"
        f" not be read; {numbers.flags:,} answers ({percent(numbers.flagged_share)}) are flagged as"
        " made up",
        lessons(numbers.pairs),
    ]


def _student(numbers: LoopNumbers) -> list[str]:
    if numbers.agreement is None:
        return [f"no agreement: {numbers.why('agreement')}"]
    lines = [_agreement(numbers.agreement, numbers.agreement_name)]
    lines += [
        _agreement(task, f"{task.name}: {LEXICAL if task.lexical else 'agreement'}")
        for task in numbers.agreement_by_task[:MAX_TASKS]
    ]
    lines += wrap(ceiling_words(numbers.ceiling) + _by_task(numbers), WIDTH - 2)
    if (reference := numbers.agreement.reference) is not None:
        lines.append(f"beside it, {numbers.reference_name or 'reference'}: {percent(reference)}")
    return lines


def _by_task(numbers: LoopNumbers) -> str:
    """The ceilings of the tasks, where there are several."""
    tasks = numbers.agreement_by_task[:MAX_TASKS]
    if len(tasks) < 2 or not any(task.ceiling for task in tasks):
        return ""
    said = [
        f"{_cut(t.name, 14)} {percent(t.ceiling.value) if t.ceiling else NOT_MEASURED}"
        for t in tasks
    ]
    return f"; {', '.join(said)}"


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
        *wrap(promise_sentence(found, text=any(g.lexical for g in numbers.groups)), WIDTH - 2),
        f"certified {percent(found.certified)} of all requests (any method: at most "
        f"{percent(found.most)}) · achieved {percent(found.achieved)} at "
        f"{percent(found.achieved_agreement)} agreement",
    ]
    if found.uncertified is not None:
        lines.append(f"without certificate {percent(found.uncertified)}, but nothing is promised")
    lines.append(
        f"{'group':<30}{'size':>7}  {'arm':<9}{'covered':>8}{'agree':>8}{'at least':>9}"
        f"{'ceiling':>13}{'cost':>8}"
    )
    shown = sorted(numbers.groups, key=lambda group: -group.size)[:MAX_GROUPS]
    lines += [_group(group) for group in shown]
    if more := len(numbers.groups) - len(shown):
        lines.append(f"and {more} smaller groups in the report")
    if any(group.lexical for group in shown):
        lines.append(f"* {LEXICAL}")
    return lines


def _group(group: GroupNumbers) -> str:
    name = _cut(group.name, 27) + (" *" if group.lexical else "")
    return (
        f"{name:<30}{group.size:>7,}  {group.arm:<9}{percent(group.coverage):>8}"
        f"{percent(group.agreement):>8}{percent(group.agreement_low):>9}"
        f"{percent(group.ceiling.value) if group.ceiling else NOT_MEASURED:>13}"
        f"{percent(group.cost_ratio):>8}"
    )


def _costs(numbers: LoopNumbers) -> list[str]:
    costs = numbers.costs
    if costs is None:
        return [f"no cost figures: {numbers.why('costs')}"]
    billed, routed = money(costs.frontier_usd), money(costs.blended_ratio * costs.frontier_usd)
    if costs.pays is False:
        sample = "if the log is a sample, compare your real load with the one that pays"
        return [
            f"no saving at the logged load: {routed} as routed, {billed} at the frontier"
            f" ({costs.requests:,} requests)",
            *wrap(f"{load_sentence(costs)}; {sample}", WIDTH - 2),
        ]
    extras = extras_words(costs).removeprefix(", ")
    rests = f"{extras}. {load_sentence(costs)}" if extras else load_sentence(costs)
    return [
        f"the frontier billed {billed} for {costs.requests:,} requests; as routed they would cost"
        f" {routed}",
        f"covered requests {percent(costs.covered_ratio)} of the frontier's bill, whole workload"
        f" (blended) {percent(costs.blended_ratio)}",
        *wrap(rests, WIDTH - 2),
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
