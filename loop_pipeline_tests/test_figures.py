"""No figure in README or docs is invented: it was measured, or it is a default of the code.

A paragraph, list item or table row with a measured figure links to its benchmark, as in
``[benchmarks](docs/benchmarks.md#certificate)``. Every figure in it has to be in that result,
rounded as it is shown. Any other figure has to stand in one of the lists below, with the place in
the code that has the same value, or with the reason why it is neither measured nor a default.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import page, results
from loop_pipeline_tests.test_docs import MADE, PAGES, ROOT, named, prose_of

UNITS = r"s|ms|seconds?|minutes?|GB|MB|kB|points?|USD|times|tokens/s"
FIGURE = re.compile(
    rf"(?<![\w.,/-])(?:\d[\d,]*(?:\.\d+)?(?:\s?%|[ -](?:{UNITS})\b)|\d[\d,]*\.\d+(?![\w.]))"
)
NUMBER = re.compile(r"(?<![\w.,/-])\d[\d,]*(?:\.\d+)?(?![\w%]|\.\d|\s%)")
BENCHMARK = re.compile(r"benchmarks\.md#([\w-]+)")
# Versions and licences are no figures.
NO_FIGURE = re.compile(r"(Python|CC BY(-SA)?|Apache-|PostgreSQL|MLflow|CUDA) ?\d[\d.]*\+?")

SETTING = "loop_pipeline.settings:LoopSettings.model_fields['{}'].default"
DEFAULTS = {
    "95%": SETTING.format("target_agreement"),
    "5%": SETTING.format("delta"),
    "0.8": "loop_pipeline.answers.agreement:LEXICAL",
}
# By page: figures that the code has, and where.
CONSTANTS = {
    "docs/concepts/certificates.md": {
        "2 points": f"{SETTING.format('ceiling_margin')} * 100",
    },
    "docs/concepts/costs.md": {
        "1.35": "loop_pipeline.costs.attribution:LOADED_FACTOR",
        "1.40": SETTING.format("server_hourly_usd"),
        "0.10 USD": "loop_pipeline.demo.runs:SERVER_HOURLY_USD",
    },
    "docs/concepts/groups.md": {
        "0.85": "loop_pipeline.groups.clustering.lifecycle:MERGE_AT",
        "1%": "loop_pipeline.groups.clustering.lifecycle:SMALL_SHARE",
        "70%": "loop_pipeline.groups.clustering.refit:MEMBERS_KEPT",
    },
    "docs/concepts/hallucination.md": {
        "0.2": "loop_pipeline.labels.hallucination.tiers:UNCERTAIN[0]",
        "0.8": "loop_pipeline.labels.hallucination.tiers:UNCERTAIN[1]",
    },
    "docs/concepts/monitoring.md": {
        "2%": "loop_pipeline.routing.policy:EXPLORATION_RATE",
        "10%": "loop_pipeline.monitoring.shadow_share:CLOSE",
        "20%": "loop_pipeline.routing.policy:ROLLOUT_RATE",
    },
    "docs/concepts/quality.md": {
        "60%": "loop_pipeline.labels.pairs:EDIT_RANGE[1]",
        "0.6": "loop_pipeline.labels.quality.thresholds:MIN_AUC",
    },
    "docs/concepts/reviews.md": {"2%": SETTING.format("review_rate")},
    "docs/concepts/rollout.md": {
        "1%": "loop_pipeline.rollout.canary:STAGES['1%']",
        "20%": "loop_pipeline.routing.policy:ROLLOUT_RATE",
        "25%": "loop_pipeline.rollout.canary:STAGES['25%']",
    },
    "docs/concepts/routing.md": {"2%": "loop_pipeline.routing.policy:EXPLORATION_RATE"},
    "docs/concepts/training-set.md": {
        "70%": "loop_pipeline.traces.records:dict(SPLITS)['train']",
        "15%": "loop_pipeline.traces.records:dict(SPLITS)['calibration']",
        "10%": "loop_pipeline.training.dataset.selection:REPLAY",
    },
    "docs/glossary.md": {
        "1%": "loop_pipeline.rollout.canary:STAGES['1%']",
        "25%": "loop_pipeline.rollout.canary:STAGES['25%']",
    },
    "docs/reference/policy.md": {
        "0.02": "loop_pipeline.routing.policy:EXPLORATION_RATE",
        "0.2": "loop_pipeline.routing.policy:ROLLOUT_RATE",
    },
    "docs/reference/trace-format.md": {
        "0.05 s": "loop_pipeline.answers.schemas.bounded_schema:PATTERNS_S"
    },
}
# By page: figures that are neither measured nor in the code, and why they may stand there.
TOLD = {
    "README.md": {"8 GB": "the sizes that the installation prints, rounded up"},
    "docs/concepts/certificates.md": {"85%": "an invented agreement, to explain with"},
    "docs/concepts/costs.md": {"100%": "the whole"},
    "docs/concepts/doctor.md": {"80%": "CPT80 is named after it (RouteLLM)"},
    "docs/concepts/hallucination.md": {"0.5": "nothing is known"},
    "docs/concepts/training.md": {"16 GB": "the next size of card above the estimate"},
    "docs/operations/postgres.md": {"30 s": "the wait that SQLite is opened with"},
    "docs/reference/jobs.md": {"1%": "of quarantined lines, in the check itself"},
    "docs/reference/trace-format.md": {"0.5": "the middle of a verdict's scale"},
}
PROSE = [path for path in PAGES if path not in MADE]


def passages_of(path: Path) -> list[str]:
    """Paragraphs, list items and rows of tables."""
    text = re.sub(r"<!--.*?-->", "", prose_of(path), flags=re.DOTALL)
    return [p for p in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.|\|) ?)", text) if p.strip()]


def figures_in(passage: str, pattern: re.Pattern[str]) -> list[str]:
    plain = re.sub(r"`[^`\n]*`|\]\([^)]*\)|<https?:[^>]*>", " ", passage)
    plain = re.sub(r"^\s*\d+\.\s", "", plain)  # the number of a list item
    return pattern.findall(NO_FIGURE.sub(" ", plain))


def parts_of(figure: str) -> tuple[float, float, bool]:
    """Value, half of its last digit, and whether it is in per cent."""
    number = re.match(r"[\d,]+(?:\.(\d+))?", figure)
    assert number
    step = 10.0 ** -len(number[1] or "")
    return float(number[0].replace(",", "")), step / 2, figure.endswith("%")


def same(figure: str, value: object) -> bool:
    """Whether a figure is a value, rounded."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    shown, half, per_cent = parts_of(figure)
    known = [100 * value] if per_cent else [value]
    return any(abs(shown - number) <= half * (1 + 1e-9) for number in known)


def numbers_in(result: Any) -> list[float]:
    """All numbers of a result, also those in its sentences."""
    if isinstance(result, dict):
        return [
            n for key, value in result.items() for part in (key, value) for n in numbers_in(part)
        ]
    if isinstance(result, list):
        return [number for part in result for number in numbers_in(part)]
    if isinstance(result, str):
        found = [(parts_of(text)[0], text) for text in re.findall(r"\d[\d,]*(?:\.\d+)?%?", result)]
        return [value / 100 if text.endswith("%") else value for value, text in found]
    return [result] if isinstance(result, int | float) else []


def value_at(place: str) -> Any:
    module, expression = place.split(":", 1)
    return eval(expression, vars(importlib.import_module(module)))


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_figure_was_measured_or_is_in_the_code(path: Path) -> None:
    known = DEFAULTS | CONSTANTS.get(named(path), {})
    told, measured, wrong = TOLD.get(named(path), {}), results(), []
    for passage in passages_of(path):
        sources = BENCHMARK.findall(passage)
        figures = figures_in(passage, FIGURE)
        if sources:
            figures += [n for n in figures_in(passage, NUMBER) if len(n.replace(",", "")) > 2]
        found = numbers_in([measured[name] for name in sources if name in measured])
        wrong += [f"no benchmark {name}" for name in sources if name not in measured]
        wrong += [
            f"{figure!r} in {' '.join(passage.split())[:80]!r}"
            for figure in dict.fromkeys(figures)
            if figure not in told
            and not (figure in known and same(figure, value_at(known[figure])))
            and not any(same(figure, number) for number in found)
        ]
    assert not wrong, "neither in the linked benchmark nor in a list of test_figures.py"


def test_an_invented_and_a_stale_figure_are_seen() -> None:
    measured = {"shares": [0.746, 0.018], "title": "600 draws of 400 rows"}
    found = numbers_in(measured)
    for right in ("74.6%", "75%", "1.8%", "600", "400 s"):
        assert any(same(right, number) for number in found), right
    for wrong in ("74.7%", "74.61%", "1.7%", "601", "0.75%"):
        assert not any(same(wrong, number) for number in found), wrong
    assert not same("94%", value_at(DEFAULTS["95%"]))


def test_figures_are_found_in_sentences_and_not_in_code_versions_or_addresses() -> None:
    said = "1. Of 1,200 rows 73.4% came in 12 ms, 0.5 GB; `0.7` on Python 3.11 ([a](b.md#x-1.5))."
    assert figures_in(said, FIGURE) == ["73.4%", "12 ms", "0.5 GB"]
    assert figures_in(said, NUMBER) == ["1,200", "12", "0.5"]


def test_the_page_of_the_benchmarks_is_made_of_their_results() -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(results()))
def test_every_result_says_how_where_and_when(name: str) -> None:
    result = results()[name]
    assert result["benchmark"] == name
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    assert f"python -m benchmarks.{name}" in result["command"]
    assert re.fullmatch(r"[0-9a-f]{7,40}", result["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert result["question"].endswith("?")
    for table in result["tables"]:
        assert table["rows"], f"{table['title']} is empty"
        assert any(isinstance(v, int | float) for row in table["rows"] for v in row.values())
    if "source" not in result:
        assert {"processor", "cores", "load_at_start", "load_at_end"} <= result["machine"].keys()
