"""Is a fused quality score closer to what people say than the signals and judges it is made of?

    LOOP_BENCH_DATA=../shared/data OMP_NUM_THREADS=1 python -m benchmarks.quality_fusion

FRANK: fifteen published signals fused on `valid` and scored on `test`. PandaLM: two judges (and the
texts they judged) against the majority of three people, out of fold. The signals and judges alone
are recomputed from the sets' own files in the same run.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import load
from benchmarks.record import Start, record, table
from loop_pipeline.labels.quality.stacking import fit_stack


def frank_table() -> pd.DataFrame:
    """Plain Pearson, and partial with the summarising system taken out (the paper's protocol)."""
    keys = ["hash", "model_name", "dataset"]
    people, signals = (
        pd.DataFrame(json.loads(load("frank_signals", name)))
        for name in ("human_annotations.json.gz", "baseline_factuality_metrics_outputs.json.gz")
    )
    rows = signals.merge(people[[*keys, "Factuality"]], on=keys)
    rows.index = rows.index.astype(str)
    names = [c for c in signals if c not in (*keys, "split")]
    facts, human = rows[names].astype(float), rows["Factuality"].astype(float)
    valid, test = rows["split"] == "valid", rows["split"] == "test"

    def figures(name: str, score: pd.Series, kind: str = "control") -> dict[str, Any]:
        own, truth, system = score[test], human[test], rows.loc[test, "model_name"]
        return {
            "signal": name,
            "kind": kind,
            "n": int(test.sum()),
            "plain": float(np.corrcoef(own, truth)[0, 1]),
            "partial": partial_pearson(own, truth, system),
        }

    lines = [figures(name, facts[name].fillna(facts[name].mean())) for name in names]
    best = sorted(lines, key=lambda line: line["plain"])[-2:]
    best += [max(lines, key=lambda line: line["partial"])]
    lines = list({line["signal"]: line for line in best}.values())
    filled = facts.fillna(facts[valid].mean())
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    fused = ridge.fit(filled[valid], human[valid]).predict(filled)
    lines.append(figures("ridge over all signals", pd.Series(fused, index=rows.index)))
    for tasks in ("dataset", "model_name"):
        stack = fit_stack(facts, rows[tasks], human[valid])
        score = pd.Series(expit(stack.log_odds(facts, rows[tasks])), index=rows.index)
        lines.append(figures(f"loop_pipeline, task = {tasks}", score, "ours"))
    return pd.DataFrame(lines)


def partial_pearson(x: pd.Series, y: pd.Series, by: pd.Series) -> float:
    """Correlation of what is left when the means of each system are taken out."""
    left = [values - values.groupby(by).transform("mean") for values in (x, y)]
    return float(np.corrcoef(*left)[0, 1])


def pandalm_table() -> pd.DataFrame:
    """Judges alone, fused, and fused with what the texts show; folds keep instructions together."""
    people, gpt, panda = (
        pd.DataFrame(json.loads(load("pandalm", f"{name}.json.gz"))).set_index("idx")
        for name in ("testset-v1", "gpt-3.5-turbo-testset-v1", "pandalm-7b-testset-v1")
    )
    texts = people[["instruction", "input", "response1", "response2"]].astype(str)
    gold = people[["annotator1", "annotator2", "annotator3"]].mode(axis=1)[0].astype(int)
    judges = {
        "GPT-3.5-turbo": gpt["gpt_result"].map({"1": 1, "2": 2, "Tie": 0, "garbage": 0}),
        "PandaLM-7B": panda["pandalm_result"].astype(int),
    }
    votes = pd.DataFrame(
        {f"{name}={c}": said == c for name, said in judges.items() for c in (0, 1, 2)}
    )
    folds = list(
        StratifiedGroupKFold(10, shuffle=True, random_state=0).split(
            texts, gold, texts["instruction"] + texts["input"]
        )
    )
    scores = {name: (said == gold).to_numpy() for name, said in judges.items()}
    scores["always 2 (constant)"] = (gold == 2).to_numpy()
    for name, facts in {
        "loop_pipeline, both judges": votes,
        "loop_pipeline, judges and texts": pd.concat([votes, _texts(texts)], axis=1),
    }.items():
        said = _fused(facts.astype(float), gold, folds)
        scores[name] = said == gold.to_numpy()
    rng, rival = np.random.default_rng(0), scores["GPT-3.5-turbo"]
    lines = []
    for name, right in scores.items():
        again = rng.integers(0, len(gold), (2000, len(gold)))
        gain = np.percentile((right[again].astype(int) - rival[again]).mean(axis=1), [2.5, 97.5])
        lines.append(
            {
                "judge": name,
                "kind": "ours" if name.startswith("loop_pipeline") else "control",
                "n": len(gold),
                "accuracy": right.mean(),
                "over GPT-3.5": (right.astype(int) - rival).mean(),
                "over GPT-3.5 low": gain[0],
                "over GPT-3.5 high": gain[1],
            }
        )
    return pd.DataFrame(lines)


def _texts(texts: pd.DataFrame) -> pd.DataFrame:
    words = {c: texts[c].str.casefold().str.findall(r"\w+") for c in texts}
    length = {c: np.log1p(words[c].str.len()) for c in ("response1", "response2")}
    asked = (words["instruction"] + words["input"]).map(set)
    shared = {
        c: pd.Series(
            [len({*w} & a) / max(len({*w}), 1) for w, a in zip(words[c], asked, strict=True)],
            index=texts.index,
        )
        for c in ("response1", "response2")
    }
    pairs = zip(words["response1"].map(set), words["response2"].map(set), strict=True)
    return pd.DataFrame(
        {
            "longer": length["response1"] - length["response2"],
            "unlike_length": (length["response1"] - length["response2"]).abs(),
            "closer": shared["response1"] - shared["response2"],
            "same": (texts["response1"] == texts["response2"]).astype(float),
            "alike": [len(a & b) / max(len(a | b), 1) for a, b in pairs],
            **{f"{c}_length": values for c, values in length.items()},
        },
        index=texts.index,
    )


def _fused(facts: pd.DataFrame, gold: pd.Series, folds: list) -> NDArray[np.int_]:
    """The class whose own stack is surest, for rows that no fit has seen."""
    said, one = np.empty(len(gold), int), pd.Series("all", index=facts.index)
    for fit, rest in folds:
        left = facts.iloc[rest]
        odds = [
            fit_stack(facts, one, (gold.iloc[fit] == c).astype(float)).log_odds(left, one)
            for c in (0, 1, 2)
        ]
        said[rest] = np.argmax(odds, axis=0)
    return said


def main() -> None:
    """Print two tables, and write them down."""
    start, tables = Start(), []
    for title, tabled in (
        ("FRANK, test split, Pearson with human factuality", frank_table),
        ("PandaLM, against the majority of three people", pandalm_table),
    ):
        found = tabled()
        sys.stdout.write(f"{title}\n{found.round(3).to_string(index=False)}\n\n")
        tables.append(table(title, found, dict.fromkeys(("accuracy", "over GPT-3.5"), "share")))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
