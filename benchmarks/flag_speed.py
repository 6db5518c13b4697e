"""How long does it take to flag a day of answers, and one while somebody waits?

    python -m benchmarks.flag_speed

50,000 answers with requests of their own: a quarter each labels, tags, JSON and texts of 40 words
that rest on a context of about 1,500 characters; then 50,000 such texts. No two of them share a
context, so nothing that is kept of one helps with another. One process, T0 and T1.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.labels.hallucination.answer_check import check_answer
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers, tiers_of
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import records

ROWS = 50_000
SINGLE = 1000
KINDS = ("label", "tags", "json", "text")
LABELS = [f"intent_{i}" for i in range(60)]
SCHEMA = {
    "type": "object",
    "required": ["intent", "count"],
    "additionalProperties": False,
    "properties": {"intent": {"enum": LABELS}, "count": {"type": "integer", "minimum": 0}},
}
SYLLABLES = [a + b for a in "bdfgklmnprstvwz" for b in "aeiou"]


def traffic(rows: int, kinds: Sequence[str] = KINDS, seed: int = 7) -> pd.DataFrame:
    """Traces with their contracts, the kinds in turn."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(5000)]
    made = [_trace(rng, vocabulary, i, kinds[i % len(kinds)]) for i in range(rows)]
    return pd.DataFrame(made)


def _trace(rng: random.Random, vocabulary: list[str], number: int, kind: str) -> dict[str, Any]:
    contract: dict[str, Any] = {"kind": kind}
    context = None
    if kind == "text":
        words = [*rng.choices(vocabulary, k=248), str(number)]
        context = ". ".join(" ".join(words[i : i + 15]) for i in range(0, len(words), 15))
        start = rng.randrange(205)
        output = " ".join(words[start : start + 38] + rng.choices(vocabulary, k=2))
    elif kind == "json":
        contract["schema"] = SCHEMA
        output = json.dumps({"intent": rng.choice(LABELS), "count": number % 7})
    else:
        contract["labels"] = LABELS
        output = ", ".join(rng.sample(LABELS, 1 if kind == "label" else 3))
    return {
        "prompt_id": f"p{number}",
        "day": "2026-09-01",
        "messages": [
            {"role": "user", "content": f"request {number}: " + vocabulary[number % 5000]}
        ],
        "context": context,
        "contract": contract,
        "output": output,
        "finish_reason": "stop",
        "template_hash": kind,
    }


def bulk(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    """Flag all of them and say how long it took."""
    start, began = time.perf_counter(), time.process_time()
    decided = flag_hallucinations(frame, tiers=Tiers())["tier"].value_counts().to_dict()
    return {
        "answers": name,
        "n": len(frame),
        "time": time.perf_counter() - start,
        "processor time": time.process_time() - began,
        "characters of context": frame["context"].dropna().str.len().mean(),
        **{f"decided by {tier}": count for tier, count in decided.items()},
    }


def main() -> None:
    """Print a line for each bulk and for each kind alone, and write them down."""
    begun = Start()
    frame, singles = traffic(ROWS), []
    bulks = [bulk(frame, "mixed"), bulk(traffic(ROWS, ["text"]), "texts only")]
    sys.stdout.write(pd.DataFrame(bulks).round(2).to_string(index=False) + "\n")
    tiers = tiers_of(load_settings())
    for kind, part in frame[ROWS // 2 :].groupby("template_hash"):
        taken = []
        for trace in records(part.head(SINGLE)):
            start = time.perf_counter()
            check_answer(trace, tiers=tiers)
            taken.append(1000 * (time.perf_counter() - start))
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        singles.append({"one": kind, "n": len(taken), "p50": p50, "p99": p99})
    sys.stdout.write(pd.DataFrame(singles).round(2).to_string(index=False) + "\n")
    tables = [
        table("All of a day's answers", bulks, {"time": "s", "processor time": "s"}),
        table("One answer while somebody waits", singles, {"p50": "ms", "p99": "ms"}),
    ]
    record(__file__, __doc__, tables, begun)


if __name__ == "__main__":
    main()
