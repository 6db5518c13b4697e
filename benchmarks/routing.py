"""How well does a score of the request alone tell when the strong model is needed?

    LOOP_BENCH_DATA=../shared/data LOOP_BENCH_LITELLM=PYTHON python -m benchmarks.routing

RouteLLM's answers to MMLU (Mixtral-8x7B and GPT-4-1106), its contaminated prompts taken out. Each
draw labels 1,500 rows and scores all others of its pool; the text of every row, but no label, fits
the embedder. The method was chosen on one half of the rows: ``held out`` draws from the other half
only, ``all`` from both. The subject is never used. Ties are broken at random.
LOOP_BENCH_MMLU_VECTORS may name an .npy of an encoder's vectors of the prompts, in the order of
the files' names: one more line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.data import load, unpacked
from benchmarks.litellm_routers import RELEASE, VARIABLE, ask
from benchmarks.record import Start, record, table
from loop_pipeline.confidence.request_score import fit_request_score
from loop_pipeline.groups.embedding.embedder import Embedder

LABELS = 1_500
DRAWS = 20
BINS = 10
SPLIT_SEED = 20_240
DRAW_SEED = 500
PUBLISHED = {  # Table 2 of arXiv 2406.18665v4: APGR, CPT50, CPT80
    "BERT, arena + gold": (0.572, 41.30, 72.20),
    "matrix factorization, arena + gold": (0.597, 35.46, 71.40),
    "causal LLM, arena + gold": (0.600, 35.49, 70.31),
    "SW ranking, arena + gold": (0.603, 35.40, 71.55),
}

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


def mmlu() -> tuple[list[str], NDArray[np.bool_], NDArray[np.bool_]]:
    """Prompts, and whether the weak and the strong model answered right."""
    lines = load("routellm_mmlu", "contaminated_prompts.jsonl").decode().splitlines()
    leaked = {json.loads(line)["eval_prompt"] for line in lines}
    rows = [
        row
        for content in unpacked(load("routellm_mmlu", "mmlu_responses.tar.gz")).values()
        for row in csv.DictReader(io.StringIO(content.decode(), newline=""))
        if row["prompt"] not in leaked
    ]
    weak, strong = (
        np.array([row[model] == "True" for row in rows])
        for model in ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
    )
    return [row["prompt"] for row in rows], weak, strong


def figures(
    score: Numbers, weak: NDArray[np.bool_], strong: NDArray[np.bool_], seed: int
) -> tuple[float, float, float]:
    """APGR, CPT50 and CPT80 as RouteLLM's ``evaluate.py`` measures them, ties broken at random.

    Args:
        score: shape (n,), higher needs the strong model.
        weak: whether the weak model was right.
        strong: the strong one.
        seed: of the ties.
    """
    n = len(score)
    order = np.lexsort((np.random.default_rng(seed).random(n), score))
    rank = np.empty(n)
    rank[order] = np.arange(n)
    edges = np.quantile(rank, np.linspace(0, 1, BINS + 1))
    called = np.array([rank >= edge for edge in edges[:-1]] + [rank > edges[-1]])[::-1]
    x, y = called.mean(axis=1), np.where(called, strong, weak).mean(axis=1)
    low, high = weak.mean(), strong.mean()

    def calls(share: float) -> float:
        wanted = low + share * (high - low)
        at = int(np.argmax(y >= wanted))
        return 100 * float(np.interp(wanted, y[at - 1 : at + 1], x[at - 1 : at + 1]))

    return float((np.trapezoid(y, x) - low) / (high - low)), calls(0.5), calls(0.8)


def routers(
    texts: list[str], weak: NDArray[np.bool_], strong: NDArray[np.bool_]
) -> dict[str, Callable[[Rows, Rows, int], Numbers]]:
    """Each gives the scores of the second rows, having seen the labels of the first ones."""
    vectors = Embedder.fit(texts, seed=0).transform(texts)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts)
    lengths = np.array([float(len(t)) for t in texts])
    better = weak.astype(float) - strong  # of the cheap model; its answer is as good from 0 on

    def logistic(known: Rows, rest: Rows, _: int) -> Numbers:
        model = LogisticRegression(max_iter=1000).fit(words[known], better[known] < 0)
        return model.predict_proba(words[rest])[:, 1]

    def ours(target: Numbers, of: NDArray[np.float32]) -> Callable[[Rows, Rows, int], Numbers]:
        def scored(known: Rows, rest: Rows, _: int) -> Numbers:
            own = [texts[i] for i in known], of[known], target[known]
            return -fit_request_score(*own).values([texts[i] for i in rest], of[rest])

        return scored

    named: dict[str, Callable[[Rows, Rows, int], Numbers]] = {
        "random": lambda _, rest, seed: np.random.default_rng(seed).random(len(rest)),
        "prompt length only": lambda _, rest, __: lengths[rest],
        "TF-IDF + logistic": logistic,
        "request score, quality difference": ours(better, vectors),
        "request score, as good or not": ours((better >= 0).astype(float), vectors),
    }
    if path := os.environ.get("LOOP_BENCH_MMLU_VECTORS"):
        encoded = np.load(path, allow_pickle=False)
        encoded = encoded - encoded.mean(axis=0)
        _, axes = np.linalg.eigh(encoded.T @ encoded)  # strongest first, as our own come
        named["request score, quality difference, encoder"] = ours(
            better, (encoded @ axes[:, ::-1]).astype(np.float32)
        )
    peers = ask(texts)
    if isinstance(peers, str):
        sys.stderr.write(peers + "\n")
        return named
    for version, found in peers.items():
        scores = np.array(found["scores"])
        named[f"LiteLLM {version}"] = lambda _, rest, __, scores=scores: scores[rest]
    return named


def main() -> None:
    """Print a table per pool, and write them down."""
    start = Start()
    tables: list[dict[str, Any]] = []
    texts, weak, strong = mmlu()
    named = routers(texts, weak, strong)
    halves = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    chosen_on, held_out = halves[: len(texts) // 2], halves[len(texts) // 2 :]
    for pool_name, pool in (("held out", held_out), ("all", np.arange(len(texts)))):
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in named}
        for seed in range(DRAW_SEED, DRAW_SEED + DRAWS):
            drawn = np.random.default_rng(seed).permutation(pool)
            known, rest = drawn[:LABELS], drawn[LABELS:]
            for name, router in named.items():
                score = router(known, rest, seed)
                found[name].append(figures(score, weak[rest], strong[rest], seed))
        if pool_name == "held out":
            name = "request score, quality difference"
            score = named[name](chosen_on, held_out, 0)
            most = f"{name}, {len(chosen_on)} labels (the other half)"
            found[most] = [figures(score, weak[held_out], strong[held_out], 0)]
        lines = [
            {"router": name, "kind": "ours" if name.startswith("request score") else "control"}
            | {
                f"{what}{of}": value
                for i, what in enumerate(("APGR", "CPT50", "CPT80"))
                for of, value in (
                    ("", np.mean([d[i] for d in draws])),
                    (" sd", np.std([d[i] for d in draws])),
                )
            }
            for name, draws in found.items()
        ]
        frame = pd.DataFrame(lines)
        title = (
            f"{pool_name}: {len(pool)} rows, {DRAWS} draws of {LABELS} labels, all others scored; "
            f"weak {weak[pool].mean():.4f}, strong {strong[pool].mean():.4f}"
        )
        sys.stdout.write(f"{title}\n{frame.round(3).to_string(index=False)}\n\n")
        tables.append(table(title, lines))
    quoted = [
        {"router": name, "kind": "published"}
        | dict(zip(("APGR", "CPT50", "CPT80"), row, strict=True))
        for name, row in PUBLISHED.items()
    ]
    sys.stdout.write(pd.DataFrame(quoted).to_string(index=False) + "\n")
    tables.append(table("Published: Table 2 of arXiv 2406.18665v4, all rows", quoted))
    rivals = [f"{RELEASE}, {name[8:]}" for name in named if name.startswith("LiteLLM ")]
    used = (VARIABLE, "LOOP_BENCH_MMLU_VECTORS")
    record(__file__, __doc__, tables, start, rivals=rivals, variables=used)


if __name__ == "__main__":
    main()
