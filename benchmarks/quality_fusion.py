"""Is a fused quality score closer to what people say than the signals and judges it is made of?

    LOOP_BENCH_DATA=../shared/data OMP_NUM_THREADS=1 python -m benchmarks.quality_fusion

FRANK: fifteen published signals fused on `valid` and scored on `test`. PandaLM: two judges (and the
texts they judged) against the majority of three people, out of fold; as their mean, which the loop
took before, and with a signal column each. The signals and judges alone are recomputed from the
sets' own files in the same run. Six simulated judges of answers of which 60% are good, each asked
about 70% of them: four are right in 75 to 90%, two in 15 and 20%.
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
from loop_pipeline.labels.judges import OWN, judge_features, judges_columns, opinions
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
        said = _fused(dict.fromkeys((0, 1, 2), facts.astype(float)), gold, folds)
        scores[name] = said == gold.to_numpy()
    each = {
        c: pd.DataFrame(
            {f"{OWN}{name}": (said == c).astype(float) for name, said in judges.items()}
        )
        for c in (0, 1, 2)
    }
    means = {c: own.mean(axis=1).to_frame("judge") for c, own in each.items()}
    for name, facts in {"judges' mean": means, "loop_pipeline, a column a judge": each}.items():
        scores[name] = _fused(facts, gold, folds) == gold.to_numpy()
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


def _fused(facts: dict[int, pd.DataFrame], gold: pd.Series, folds: list) -> NDArray[np.int_]:
    """The class whose own stack is surest, for rows that no fit has seen."""
    said, one = np.empty(len(gold), int), pd.Series("all", index=gold.index)
    for fit, rest in folds:
        odds = [
            fit_stack(own, one, (gold.iloc[fit] == c).astype(float)).log_odds(own.iloc[rest], one)
            for c, own in facts.items()
        ]
        said[rest] = np.argmax(odds, axis=0)
    return said


def six_judges(n: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Feedback of six judges, two of them against people, and which answers are good."""
    rng = np.random.default_rng(seed)
    good = pd.Series(rng.random(n) < 0.6, index=[f"a{i}" for i in range(n)])
    parts = []
    for number, skill in enumerate((0.9, 0.85, 0.8, 0.75, 0.15, 0.2)):
        value = np.where(rng.random(n) < skill, good, ~good).astype(float)
        said = pd.DataFrame({"prompt_id": good.index, "actor": f"judge {number}", "value": value})
        parts.append(said[rng.random(n) < 0.7].assign(kind="judge"))
    return pd.concat(parts, ignore_index=True), good


def six_judges_table() -> pd.DataFrame:
    """Accuracy on 20,000 other answers, by what the score is fitted to."""
    lines = []
    new, truth = six_judges(20_000, 1)
    for reviews in (100, 300, 600):
        feedback, good = six_judges(reviews, 2)
        said, heard = opinions(feedback), opinions(new)
        columns = judges_columns(said, good.index)
        one, rest = (pd.Series("all", index=rows.index) for rows in (good, truth))
        for name, names in {
            "judges' mean": dict.fromkeys(columns, "mean"),
            "loop_pipeline, a column a judge": columns,
        }.items():
            stack = fit_stack(judge_features(said, names, good.index), one, good.astype(float))
            odds = stack.log_odds(judge_features(heard, names, truth.index), rest)
            ours = name.startswith("loop_pipeline")
            lines.append(
                {
                    "score": name,
                    "kind": "ours" if ours else "control",
                    "reviews": reviews,
                    "accuracy": float(((odds > 0) == truth.to_numpy()).mean()),
                    "weights below 0": sum(w < 0 for w in stack.weights[""]),
                }
            )
    return pd.DataFrame(lines)


def main() -> None:
    """Print two tables, and write them down."""
    start, tables = Start(), []
    for title, tabled in (
        ("FRANK, test split, Pearson with human factuality", frank_table),
        ("PandaLM, against the majority of three people", pandalm_table),
        ("Six simulated judges, two of them against people", six_judges_table),
    ):
        found = tabled()
        sys.stdout.write(f"{title}\n{found.round(3).to_string(index=False)}\n\n")
        tables.append(table(title, found, dict.fromkeys(("accuracy", "over GPT-3.5"), "share")))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
