"""How much of what a student is judged on has it seen, under our rule and under a peer's?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.leak

2,000 requests of BANKING77 (train part); three in ten come again as people write them (case,
punctuation, greeting, thanks), and one in ten comes again, word for word, with an answer that a
person has corrected. The peer's rule is that of NVIDIA's data flywheel blueprint
(``data_validator.py``): exact match on the messages, the first copy kept, a random split. A leak is
an evaluation row with a training row at a cosine of 0.9 or more of TF-IDF over character 3-5-grams,
across words ("char") and inside them ("char_wb"): neither is what our rule looks at.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks.record import Start, record, table
from loop_pipeline.demo.public_sets import load_set
from loop_pipeline.store.database import open_store
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.training.dataset.selection import select_rows
from loop_pipeline.training.dataset.splits import split_traces

REQUESTS = 2000
VARIANTS = 0.3
CORRECTED = 0.1
EVALUATED = 0.3
COSINE = 0.9
GREETINGS = ("Hi, ", "Hello, ", "Good morning, ", "Hey there, ", "Dear team, ")
THANKS = (" Thanks", " Thank you!", " Thanks in advance.", " Many thanks")


def traffic(folder: Path, seed: int = 7) -> pd.DataFrame:
    """Requests in the order they come: text, answer (what is stored), truth, corrected."""
    rng = random.Random(seed)
    drawn = rng.sample(load_set("banking77", folder), REQUESTS)
    labels = sorted({label for _, label in drawn})
    rows = [{"text": text, "answer": label, "truth": label} for text, label in drawn]
    again = [row | {"text": _variant(rng, row["text"])} for row in rng.sample(rows, 600)]
    for row in rng.sample(rows, int(CORRECTED * REQUESTS)):
        row["answer"] = rng.choice([label for label in labels if label != row["truth"]])
        again.append(row | {"answer": row["truth"], "corrected": row["answer"]})
    rng.shuffle(again)
    frame = pd.DataFrame(rows + again)
    frame["prompt_id"] = [f"b{i:05d}" for i in range(len(frame))]
    return frame


def _variant(rng: random.Random, text: str) -> str:
    kind = rng.choice(("case", "punctuation", "greeting", "thanks", "both"))
    if kind == "case":
        return text.lower() if text != text.lower() else text.upper()
    if kind == "punctuation":
        return text.rstrip("?.!") + rng.choice(("", "!", "??", "..."))
    start = rng.choice(GREETINGS) if kind != "thanks" else ""
    end = rng.choice(THANKS) if kind != "greeting" else ""
    return f"{start}{text[0].lower()}{text[1:]}{end}"


def peer(rows: pd.DataFrame, seed: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exact match, first copy kept, random split."""
    kept = rows.drop_duplicates("text").sample(frac=1, random_state=seed)
    cut = int(EVALUATED * len(kept))
    return kept.iloc[cut:], kept.iloc[:cut]


def ours(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The rows that the loop trains on, those that it holds out, and what it left out."""
    start = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traffic.jsonl"
        path.write_text("".join(_line(row, start) for row in rows.to_dict("records")))
        engine = open_store(f"sqlite:///{folder}/loop.db")
        import_file(engine, path)
        traces = split_traces(engine)
        engine.dispose()
    pairs = rows[["prompt_id"]].assign(
        kind="sft", chosen=rows["answer"], rejected=None, score=0.99, reason="", day=""
    )
    selection = select_rows(pairs, traces, reviewed=set(), trained=set())
    by_prompt = rows.set_index("prompt_id")
    train = selection.rows[selection.rows["split"] == "train"]
    held_out = traces[traces["split"] != "train"]
    found = (by_prompt.loc[part["prompt_id"]].reset_index() for part in (train, held_out))
    return *found, selection.counts  # pyright: ignore[reportReturnType]


def _line(row: dict[str, Any], start: dt.datetime) -> str:
    again = isinstance(row["corrected"], str)
    trace = {
        "prompt_id": row["prompt_id"],
        "ts": (start + dt.timedelta(seconds=int(row["prompt_id"][1:]))).isoformat(),
        "messages": [{"role": "user", "content": row["text"]}],
        "output": row["corrected"] if again else row["answer"],
        "model": "gold labels of banking77",
        "contract": {"kind": "label", "labels": []},
    }
    return json.dumps(trace) + "\n"


def leaks(train: pd.DataFrame, evaluated: pd.DataFrame, analyzer: str) -> float:
    """Share of evaluation rows that have a near-duplicate among the training rows."""
    vectors = TfidfVectorizer(analyzer=analyzer, ngram_range=(3, 5)).fit(
        pd.concat([train["text"], evaluated["text"]])
    )
    likeness = vectors.transform(evaluated["text"]) @ vectors.transform(train["text"]).T
    return float((likeness.max(axis=1).toarray() >= COSINE).mean())


def accuracy(train: pd.DataFrame, evaluated: pd.DataFrame) -> float:
    """Of a linear classifier on the training rows, against the truth."""
    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        LinearSVC(random_state=0),
    )
    model.fit(train["text"], train["answer"])
    return float((model.predict(evaluated["text"]) == evaluated["truth"]).mean())


def learned(train: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Of the corrections whose request is trained on, the share that is what is trained."""
    answers = train.assign(text=train["text"].str.casefold()).set_index("text")["answer"]
    known = rows[rows["corrected"].notna() & rows["text"].str.casefold().isin(answers.index)]
    right = [
        answers[[t.casefold()]].eq(a).all()
        for t, a in zip(known["text"], known["truth"], strict=True)
    ]
    return float(np.mean(right))


def main() -> None:
    """Print one table, and write it down."""
    start = Start()
    folder = Path(os.environ.get("LOOP_BENCH_DATA", "../shared/data"))
    rows = traffic(folder)
    *mine, counts = ours(rows)
    found = {}
    for name, (train, evaluated) in {"peer's rule": peer(rows), "ours": tuple(mine)}.items():
        found[name] = {
            "training rows": len(train),
            "evaluation rows": len(evaluated),
            "leaks, char": leaks(train, evaluated, "char"),
            "leaks, char_wb": leaks(train, evaluated, "char_wb"),
            "corrections learned": learned(train, rows),
            "accuracy of a linear model": accuracy(train, evaluated),
        }
    sys.stdout.write(pd.DataFrame(found).round(4).to_string() + f"\nleft out by ours: {counts}\n")
    shares = ("leaks, char", "leaks, char_wb", "corrections learned", "accuracy of a linear model")
    lines = [
        {"rule": name, "kind": "ours" if name == "ours" else "control"} | figures
        for name, figures in found.items()
    ]
    title = f"{len(rows):,} requests of BANKING77, rewritten and corrected"
    record(__file__, __doc__, [table(title, lines, dict.fromkeys(shares, "share"))], start)


if __name__ == "__main__":
    main()
