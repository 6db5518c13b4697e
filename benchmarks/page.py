"""Makes ``docs/benchmarks.md`` of the files in ``benchmarks/results``.

    python -m benchmarks.page

Nothing is measured here, and no figure is written by hand.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.record import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
TOPICS = {
    "Every promise in every world": ("promises", "betting"),
    "Reviews and quality": (
        "quality_calibration",
        "quality_fusion",
        "quality_promise",
        "quality_fits",
        "review_draw",
        "threshold",
    ),
    "Live traffic": ("gateway", "gateway_faults"),
    "Traffic from files": ("import_speed", "import_checks", "import_conflicts", "fuzz"),
    "Made-up answers": ("paraphrase", "hallucination", "languages", "flag_speed"),
    "Task groups": (
        "groups_purity",
        "groups_identity",
        "groups_strange",
        "groups_speed",
        "novelty",
    ),
    "The training set": ("leak", "dedup"),
    "Training": ("training_speed", "qlora_7b", "gpu_proof", "noise"),
    "Promises and routing": (
        *("certificate", "recertify", "risk", "risk_live", "ceiling", "shadow_coin"),
        *("routing", "outcomes", "decision"),
    ),
    "Serving": ("adapter_swap", "vllm_logprobs"),
    "Whole turns": ("turns",),
}
INTRODUCTION = """\
<!-- Made by `make docs` from benchmarks/results/*.json. Do not edit. -->
# Benchmarks

Every figure on this page was written to a file by the command beside it
([benchmarks/results](../benchmarks/results)), and this page is made of these files.

- **ours** is this project; **control** was measured in the same run, on the same rows;
  **published** is quoted from the source named.
- An interval in brackets is a 95% interval where the method above the table does not say otherwise.
- *Load* is how many programs wanted a processor at the start and at the end (mean of a minute).
  Above the number of cores, times are longer than on an idle machine; shares do not change.
- Public data sets are not in this repository. `LOOP_BENCH_DATA` names their folder;
  `benchmarks/data.py` lists each with its origin, commit and checksum.
"""


def results() -> dict[str, dict[str, Any]]:
    """What every benchmark has measured, by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def page() -> str:
    """The whole page."""
    found = results()
    placed = {name for names in TOPICS.values() for name in names}
    if left := sorted(found.keys() - placed):
        raise ValueError(f"benchmarks/page.py has no topic for {', '.join(left)}: add it to TOPICS")
    parts = [INTRODUCTION]
    for topic, names in TOPICS.items():
        there = [found[name] for name in names if name in found]
        if there:
            parts += [f"## {topic}\n", *map(section, there)]
    return "\n".join(parts)


def section(result: dict[str, Any]) -> str:
    """One benchmark: its question, how it was measured, its tables, and when and where."""
    name, notes = result["benchmark"], result["notes"]
    told = [f"### {name}\n", f"**{result['question']}**\n"]
    told += [f"{text.replace('``', '`')}\n" for text in [result["method"], *notes] if text]
    told += [_table(table) for table in result["tables"]]
    return "\n".join([*told, _circumstances(result)])


def _table(table: dict[str, Any]) -> str:
    """A table in Markdown, the interval of a figure beside it."""
    columns = [c for c in table["columns"] if not c.endswith((" low", " high"))]
    head = [_head(column, table["units"].get(column, "")) for column in columns]
    rows = [[_cell(row, c, table["units"].get(c, "")) for c in columns] for row in table["rows"]]
    numeric = [any(isinstance(row.get(c), int | float) for row in table["rows"]) for c in columns]
    lines = [head, ["---:" if right else "---" for right in numeric], *rows]
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table['title']}:\n\n{shown}\n"


def _head(column: str, unit: str) -> str:
    return column if unit in ("", "share") else f"{column} ({unit})"


def _cell(row: dict[str, Any], column: str, unit: str) -> str:
    value = row.get(column)
    if f"{column} low" in row and value is not None:
        low, high = (_number(row[f"{column} {end}"], unit) for end in ("low", "high"))
        return f"{_number(value, unit)} [{low}, {high}]"
    return _number(value, unit)


def _number(value: Any, unit: str) -> str:
    """As a person reads it: shares in per cent, three digits after the point or three in all."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if unit == "share":
        return f"{100 * value:.1f}%"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if abs(value) >= 1
        else f"{value:.3f}"
    )


def _circumstances(result: dict[str, Any]) -> str:
    """Command, commit, date, machine, versions; one line each."""
    machine, rivals = result["machine"], result["rivals_in_this_run"]
    lines = [f"`{result['command']}`"]
    if source := result.get("source"):
        lines.append(f"**{source}**")
    dirty = ", with changes that were not committed" if result["code_changed"] else ""
    when = f"Commit {result['commit']}{dirty}, {result['date']}"
    if result["seconds"] is not None:
        when += f", {result['seconds']:,.0f} s"
    lines.append(f"{when}.")
    if machine:
        load = " to ".join(f"{machine[f'load_at_{end}'][0]:.1f}" for end in ("start", "end"))
        memory = f"{machine['memory_gb']:.0f} GB"
        where = [machine["processor"], f"{machine['cores']} cores", memory]
        where += [machine[name] for name in ("accelerator",) if name in machine]
        releases = {"Python": machine["python"]} | result["packages"]
        with_ = ", ".join(f"{name} {release}" for name, release in releases.items())
        lines.append(f"{', '.join(where)}; load {load}. {with_}.")
    if rivals:
        lines.append(f"Rivals in the same run: {', '.join(rivals)}.")
    return "\n".join(f"- {line}" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
