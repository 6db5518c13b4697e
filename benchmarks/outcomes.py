"""Does a certified policy earn its keep on other people's models?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.outcomes FOLDER

Writes tables of outcomes for `loop doctor --outcomes`, and asks the doctor about each: groups,
scores and certificates are made on two parts of it, the figures on the third.

clinc150.csv: the stand-in student of `benchmarks.certificate` (linear, on TF-IDF, with its margin
as score) beside the gold label as frontier, on the 7,500 requests of validation and test, by
domain. Costs are assumed: 0.26 USD per 1,000 answers of the student; the frontier at the list
price of claude-opus-5 for characters / 4 tokens and, before them, 600 tokens that name the 150
labels (too few for the provider's cache).

routellm_mmlu.csv: Mixtral and GPT-4 on MMLU without RouteLLM's contaminated prompts, the half on
which the method of the request score was not chosen (as in `benchmarks.routing`). Costs are assumed
as in RouteLLM's paper, 0.24 and 24.7 USD per million tokens, for characters / 4 tokens.

routerarena.csv: claude-3-haiku and gemini-2.0-flash on RouterArena's public tenth, scores (one
METEOR score below 0 is 0 here) and costs as recorded there.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.certificate import clinc150
from benchmarks.data import load
from benchmarks.record import Start, record, table
from benchmarks.routing import SPLIT_SEED, mmlu
from loop_pipeline.costs.token_price import Price, Tokens
from loop_pipeline.doctor.diagnosis import POLICY
from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.outcome_table import read_table
from loop_pipeline.doctor.rehearsal import rehearse
from loop_pipeline.doctor.terminal_report import text

TARGET = 0.95
DELTA = 0.05
STUDENT_USD = 0.00026
LABEL_TOKENS = 600
USD_PER_MILLION = {"mixtral-8x7b": 0.24, "gpt-4-1106": 24.7}
ARENA_FILES = {
    "claude-3-haiku": "claude-3-haiku-20240307.jsonl.gz",
    "gemini-2.0-flash": "gemini-2.0-flash-001.jsonl.gz",
}

Row = dict[str, Any]


def clinc150_rows() -> Iterator[Row]:
    """Student and frontier on the requests that the student was not trained on."""
    margin, right, domain = clinc150()
    data = json.loads(load("clinc150", "data_full.json.gz"))
    frontier = Price(input=5.0, output=25.0)  # of claude-opus-5
    for i, (asked, _) in enumerate(data["val"] + data["test"]):
        yield {
            "prompt_id": f"clinc{i}",
            "text": asked,
            "group": domain[i],
            "student.quality": int(right[i]),
            "student.cost": STUDENT_USD,
            "student.score": round(float(margin[i]), 6),
            "frontier.quality": 1,
            "frontier.cost": round(
                frontier.cost(Tokens(LABEL_TOKENS + len(asked) // 4, 4)) or 0.0, 8
            ),
        }


def mmlu_rows() -> Iterator[Row]:
    """Whether each model answered right; the subject, which live traffic would not name, is not."""
    texts, weak, strong = mmlu()
    halves = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    for i in np.sort(halves[len(texts) // 2 :]):
        row: Row = {"prompt_id": f"mmlu{i}", "text": texts[i]}
        for (model, usd), right in zip(USD_PER_MILLION.items(), (weak, strong), strict=True):
            row[f"{model}.quality"] = int(right[i])
            row[f"{model}.cost"] = f"{len(texts[i]) / 4 * usd / 1e6:.9f}"
        yield row


def arena_rows() -> Iterator[Row]:
    """Graded answers and recorded costs of two models."""
    found: dict[str, Row] = {}
    for model, name in ARENA_FILES.items():
        for line in load("routerarena_sub10", name).decode("utf-8").splitlines():
            row = json.loads(line)
            graded = row["evaluation_result"]
            own = found.setdefault(
                row["global_index"], {"prompt_id": row["global_index"], "text": row["question"]}
            )
            own[f"{model}.quality"] = min(max(graded["score"], 0.0), 1.0)
            own[f"{model}.cost"] = graded["inference_cost"]
    yield from found.values()


def examined(name: str, path: Path) -> dict[str, Any]:
    """A line for each router on the third part of a table of outcomes; the verdict is the title."""
    found = diagnose(rehearse(read_table(path), target=TARGET, delta=DELTA))
    sys.stdout.write(f"{text(found)}\n")
    lines = []
    for router in found.routers:
        line: Row = {"router": router.name, "kind": "ours" if router.name == POLICY else "control"}
        line["sent away"] = router.share_away
        for figure, interval in (("of these agree", router.agreement), ("quality", router.quality)):
            line[figure] = None
            if interval:
                ends = {f"{figure} low": interval.low, f"{figure} high": interval.high}
                line |= {figure: interval.value} | ends
        lines.append(line | {"cost of 1,000": 1_000 * router.usd})
    units = dict.fromkeys(("sent away", "of these agree", "quality"), "share")
    return table(f"{name}. {found.verdict}", lines, units | {"cost of 1,000": "USD"})


TABLES = {"clinc150": clinc150_rows, "routellm_mmlu": mmlu_rows, "routerarena": arena_rows}


def main() -> None:
    """Write one table a set, and what the doctor says about it."""
    start, tables = Start(), []
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.outcomes FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows_of in TABLES.items():
        rows = list(rows_of())
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        sys.stdout.write(f"{folder / name}.csv: {len(rows):,} rows\n")
        tables.append(examined(name, folder / f"{name}.csv"))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
