"""How well are made-up answers found where people have said which they are?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.hallucination

BEGIN and SummEdits are development parts, and the features were chosen while looking at them; the
weights of a line never saw a source that the line is scored on. Figures beside: flag everything,
the constant answer, and balanced accuracy with its 95% bootstrap interval over sources. "Measured"
is measured here in this run; "published" is quoted from the source that is named.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from benchmarks.data import load
from benchmarks.record import Start, record, table
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_features import design_of
from loop_pipeline.labels.hallucination.wording_fit import (
    Row,
    balanced_accuracy,
    cross_validate,
    fit_detector,
)
from loop_pipeline.labels.hallucination.wording_score import FLAG_FROM
from loop_pipeline.labels.hallucination.wording_text import STOP_WORDS, source_of, stem
from loop_pipeline.labels.hallucination.wording_weights import SETS, begin_rows

# Balanced accuracy, README of salesforce/factualNLG.
SUMMEDITS = {
    "SummaCConv": (53.7, 59.7),
    "QAFactEval": (63.6, 67.5),
    "ChatGPT": (65.5, 75.6),
    "GPT-4": (79.5, 82.4),
    "human": (87.4, 89.3),
}
DOMAINS = ("sales_email", "scitldr")
# Accuracy, the paper's recognition table (arXiv 2305.11747) as a secondary summary prints it.
HALUEVAL = {"ChatGPT": 79.44, "Claude 2": 75.00, "GPT-3": 72.72, "Llama 2": 20.46}
WORD = re.compile(r"[^\W_]+")
SHARES = (
    "bad",
    "accuracy",
    "constant answer",
    "balanced accuracy",
    "score rises",
    "flagged before",
    "flagged after",
)
NAMES = ("Quibble", "Zanzibar", "Mortimer", "Petrowski")

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]


def begin(*, generic: bool) -> dict[str, list[Row]]:
    """The three development sets; label: not fully attributable."""
    return {
        name: begin_rows(load("begin", f"begin_dev_{name}.tsv.gz").decode(), generic=generic)
        for name in SETS
    }


def summedits() -> dict[str, list[Row]]:
    """Two domains. ``original_summary`` would give the edit away and is not read."""
    return {
        name: [
            Row(row["doc"], row["summary"], row["label"] == 0)
            for row in json.loads(load("summedits_dev", f"summedits_{name}.json.gz"))
        ]
        for name in DOMAINS
    }


def halueval() -> list[Row]:
    """Answers without a reference: the query is all there is to hold them against."""
    lines = load("halueval_general", "general_data.json.gz").decode().splitlines()
    return [
        Row(row["user_query"], row["chatgpt_response"], row["hallucination"] == "yes")
        for row in map(json.loads, lines)
    ]


def line(name: str, rows: Sequence[Row], scores: Scores, flags: Flags) -> dict[str, object]:
    """One line of a table: ours and what it has to be held against."""
    bad = np.array([row.bad for row in rows])
    found = balanced_accuracy(bad, flags, [row.source for row in rows])
    balanced = {
        "balanced accuracy": found.value,
        "balanced accuracy low": found.low,
        "balanced accuracy high": found.high,
    }
    return {
        "measured": name,
        "rows": len(rows),
        "bad": bad.mean(),
        "AUC": roc_auc_score(bad, scores),
        "F1": f1_score(bad, flags),
        "F1 all flagged": f1_score(bad, np.ones_like(bad)),
        "F1 good": f1_score(~bad, ~flags),
        "accuracy": accuracy_score(bad, flags),
        "constant answer": max(bad.mean(), 1 - bad.mean()),
        **balanced,
    }


def shipped_line(name: str, rows: Sequence[Row]) -> dict[str, object]:
    """T0 and T1 as they ship, end to end: each source is the context of a free text."""
    found = _flagged(rows)
    return line(name, rows, found["score"].to_numpy(float), found["flag"].to_numpy(bool))


def traffic(rows: Sequence[Row], templates: str | list[str]) -> pd.DataFrame:
    """Rows as a day of traces, of one template or of one each."""
    return pd.DataFrame(
        {
            "prompt_id": [str(i) for i in range(len(rows))],
            "day": "2026-09-01",
            "messages": [[] for _ in rows],
            "context": [row.source for row in rows],
            "contract": None,
            "output": [row.output for row in rows],
            "finish_reason": "stop",
            "template_hash": templates,
        }
    )


def _flagged(rows: Sequence[Row]) -> pd.DataFrame:
    # A template of its own: these texts have no common form.
    frame = traffic(rows, [str(i) for i in range(len(rows))])
    return flag_hallucinations(frame, tiers=Tiers())


def transferred_line(name: str, fitted: Sequence[Row], rows: Sequence[Row]) -> dict[str, object]:
    """T1 fitted on other rows."""
    detector = fit_detector(fitted, trained_on=name, demand_skill=False)
    scores = detector.risk(design_of([(row.output, row.source, row.usual) for row in rows]))
    return line(name, rows, scores, scores >= FLAG_FROM)


def begin_table(*, generic: bool) -> pd.DataFrame:
    """Cross-validated on all three sets, and each set by the two others."""
    sets = begin(generic=generic)
    folded = cross_validate([row for rows in sets.values() for row in rows])
    lines, start = [], 0
    for name, rows in sets.items():
        part = slice(start, start := start + len(rows))
        bare = folded.design[part, 0]
        novel = {"AUC novel words": roc_auc_score([r.bad for r in rows], bare)}
        lines.append(line(f"{name}, folds", rows, folded.raw[part], folded.flags[part]) | novel)
        others = [row for other, found in sets.items() if other != name for row in found]
        lines.append(transferred_line(f"{name}, by the others", others, rows) | novel)
    return pd.DataFrame(lines)


def summedits_table() -> pd.DataFrame:
    """Each domain by the shipped weights, by its own documents, and by the other domain."""
    domains, lines = summedits(), []
    for name, rows in domains.items():
        other = next(found for known, found in domains.items() if known != name)
        folded = cross_validate(rows)
        lines.append(shipped_line(f"{name}, zero-shot (T0 and T1 as shipped)", rows))
        lines.append(line(f"{name}, folds by document", rows, folded.raw, folded.flags))
        lines.append(transferred_line(f"{name}, by the other domain", other, rows))
    return pd.DataFrame(lines)


def halueval_table() -> pd.DataFrame:
    """Without a reference; "no" to every row is the constant answer."""
    rows = halueval()
    folded = cross_validate(rows)
    return pd.DataFrame(
        [
            shipped_line("the query as context, as shipped", rows),
            line("the query as context, folds", rows, folded.raw, folded.flags),
        ]
    )


def swap_table(seed: int = 0) -> pd.DataFrame:
    """One word of each fully attributable BEGIN reply changed: does the score rise, is it found?"""
    rng = random.Random(seed)
    good = [row for rows in begin(generic=False).values() for row in rows if not row.bad]
    found: dict[str, list[tuple[Row, Row]]] = {}
    for row in good:
        for name, output in _swaps(row, rng):
            found.setdefault(name, []).append((row, row._replace(output=output)))
    lines = []
    for name, pairs in found.items():
        before, after = (_flagged(part) for part in zip(*pairs, strict=True))
        lines.append(
            {
                "measured": name,
                "replies": len(pairs),
                "score rises": (after["score"] > before["score"]).mean(),
                "flagged before": before["flag"].mean(),
                "flagged after": after["flag"].mean(),
            }
        )
    return pd.DataFrame(lines)


def _swaps(row: Row, rng: random.Random) -> Iterator[tuple[str, str]]:
    held = source_of(row.source).known - STOP_WORDS
    words = [m for m in WORD.finditer(row.output) if stem(m[0].casefold()) in held]
    known = [word for word in WORD.findall(row.source) if stem(word.casefold()) in held]
    numbers = [m for m in words if m[0].isdigit()]
    others = [m for m in words if m[0].isalpha()]
    for name, places, new in (
        ("a number by another", numbers, lambda m: str(int(m[0]) + 7)),
        ("a word by a foreign name", others, lambda _: rng.choice(NAMES)),
        ("a word by another of the source", others, lambda _: rng.choice(known)),
    ):
        if places:
            place = rng.choice(places)
            yield name, row.output[: place.start()] + new(place) + row.output[place.end() :]


def main() -> None:
    """Print the tables, and write them down."""
    start = Start()
    quoted = pd.DataFrame(SUMMEDITS, index=pd.Index(DOMAINS)).T / 100
    claimed = pd.DataFrame({"published": list(HALUEVAL), "kind": "published"})
    parts = {
        "BEGIN, Generic rows count as not attributable": begin_table(generic=True),
        "BEGIN without Generic rows": begin_table(generic=False),
        "BEGIN, fully attributable replies with one word changed": swap_table(),
        "SummEdits": summedits_table(),
        "SummEdits, published: balanced accuracy": (
            quoted.rename_axis("published").reset_index().assign(kind="published")
        ),
        "HaluEval general (as traffic every row is cannot_tell: it has no context)": (
            halueval_table()
        ),
        "HaluEval general, published: accuracy": (
            claimed.assign(accuracy=[value / 100 for value in HALUEVAL.values()])
        ),
    }
    for title, found in parts.items():
        sys.stdout.write(f"{title}\n{found.round(4).to_string(index=False)}\n\n")
    units = dict.fromkeys((*SHARES, *DOMAINS), "share")
    tables = [table(title, found, units) for title, found in parts.items()]
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
