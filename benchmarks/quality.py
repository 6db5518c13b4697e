"""Can the quality score be believed, and what do its promises cost? Four tables.

    LOOP_BENCH_DATA=../shared/data OMP_NUM_THREADS=1 python -m benchmarks.quality [tables]

1. BEGIN dev with simulated, biased acceptance: calibration by number of labels, against
   Dawid-Skene, majority vote and a model trained on acceptance; the interval of mean quality.
2. FRANK: fifteen published signals fused on `valid`, scored on `test`.
3. PandaLM: two judges (and the texts they judged) against the majority of three people.
4. A simulation with known truth: how often a threshold breaks its promise over 600 draws.
"""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.data import load
from loop_pipeline.labels.hallucination.wording_features import features
from loop_pipeline.labels.quality.model import fit_quality, score_quality
from loop_pipeline.labels.quality.stacking import fit_stack
from loop_pipeline.stats.calibration import reliability

PROMISE = {"target_precision": 0.95, "delta": 0.05}
Floats = NDArray[np.float64]


def main(*wanted: str) -> None:
    """Print the tables whose titles begin with one of these; without any, all."""
    for title, table in (
        ("1a. Calibration, BEGIN dev, simulated acceptance (mean of 20 draws)", calibration_table),
        ("1b. Mean quality, 95% interval (400 draws)", interval_table),
        ("2. FRANK, test split, Pearson with human factuality", frank_table),
        ("3. PandaLM, accuracy against the majority of three people", pandalm_table),
        ("4. Promise of 95% precision, 600 draws of the reviews", promise_table),
    ):
        if wanted and not title.startswith(wanted):
            continue
        sys.stdout.write(f"\n{title}\n{table().to_string(index=False)}\n")
        sys.stdout.flush()


# ---- 1. BEGIN ------------------------------------------------------------------------------


def begin() -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Lexical features, set and truth (`Fully attributable`) of the 1,229 development rows."""
    rows = [
        (name, row["knowledge"], row["response"], row["begin_label"] == "Fully attributable")
        for name in ("wow", "cmu", "tc")
        for row in csv.DictReader(
            io.StringIO(load("begin", f"begin_dev_{name}.tsv.gz").decode(), newline=""),
            delimiter="\t",
            quoting=csv.QUOTE_NONE,
        )
    ]
    index = pd.Index([f"b{i}" for i in range(len(rows))])
    facts = pd.DataFrame([features(answer, source) for _, source, answer, _ in rows], index)
    facts.columns = pd.Index([f"lexical_{i}" for i in range(facts.shape[1])])
    facts["log_words"] = [np.log1p(len(answer.split())) for _, _, answer, _ in rows]
    task = pd.Series([name for name, *_ in rows], index)
    return facts, task, pd.Series([good for *_, good in rows], index)


def with_acceptance(facts: pd.DataFrame, good: pd.Series, rng: np.random.Generator) -> pd.DataFrame:
    """Add what users did: bad answers get a reaction more often and are mostly accepted."""
    right, n = good.to_numpy(), len(good)
    seen = rng.random(n) < np.where(right, 0.5, 0.8)
    accepted = rng.random(n) < np.where(right, 0.93, 0.65)
    modified = ~accepted & (rng.random(n) < 0.5)
    distance = np.clip(rng.beta(2, 3, n) + np.where(right, -0.15, 0.1), 0.02, 1)
    return facts.assign(
        accepted=seen & accepted,
        modified=seen & modified,
        rejected=seen & ~accepted & ~modified,
        no_action=~seen,
        edit_distance=np.where(seen & modified, distance, 0.0),
    ).astype(float)


def calibration_table() -> pd.DataFrame:
    """ECE, Brier and AUC on the rows that were not labelled."""
    facts, task, good = begin()
    lines: dict[tuple[str, int], list[dict]] = {}
    for draw in range(20):
        rng = np.random.default_rng(draw)
        frame = with_acceptance(facts, good, rng)
        order = rng.permutation(frame.index)
        rivals = {
            ("majority of the signals", 0): _votes(frame).mean(axis=1),
            ("Dawid-Skene on the signals", 0): dawid_skene(_votes(frame)),
            ("trained on acceptance", 0): _acceptance(frame),
        }
        for (name, _), score in rivals.items():
            lines.setdefault((name, 0), []).append(reliability(score, good.to_numpy()))
        for labels in (100, 200, 500):
            taught, rest = order[:labels], order[labels:]
            verdicts = good[taught].to_frame("good")
            model = fit_quality(frame, task, verdicts, None, **PROMISE).model
            score = model.predict(frame.loc[rest], task)
            found = reliability(score.to_numpy(), good[rest].to_numpy())
            lines.setdefault(("loop_pipeline", labels), []).append(found)
    return pd.DataFrame(
        [
            {"method": name, "labels": labels}
            | {k: round(float(np.mean([f[k] for f in found])), 3) for k in ("ece", "brier", "auc")}
            for (name, labels), found in lines.items()
        ]
    )


def _votes(frame: pd.DataFrame) -> Floats:
    """Each signal as a vote for "good": above or below its median, and the user's reaction."""
    words = frame[[c for c in frame if c.startswith("lexical")]]
    votes = (words <= words.median()).to_numpy(float)
    reaction = np.where(frame["no_action"] == 1, 0.5, frame["accepted"])
    return np.column_stack([votes, reaction])


def _acceptance(frame: pd.DataFrame) -> Floats:
    seen = frame["no_action"] == 0
    facts = frame[[c for c in frame if c.startswith("lexical")] + ["log_words"]]
    fitted = LogisticRegression(max_iter=1000).fit(facts[seen], frame.loc[seen, "accepted"] > 0)
    return fitted.predict_proba(facts)[:, 1]


def dawid_skene(votes: Floats, rounds: int = 50) -> Floats:
    """P(good) by expectation maximisation over binary voters; 0.5 is no vote."""
    p = votes.mean(axis=1)
    given = votes != 0.5
    for _ in range(rounds):
        log_odds = np.full(len(p), np.log(p.mean() / (1 - p.mean())))
        for said, there in zip(votes.T, given.T, strict=True):
            hit = (p[there] @ said[there] + 1) / (p[there].sum() + 2)
            false = ((1 - p[there]) @ said[there] + 1) / ((1 - p[there]).sum() + 2)
            vote = np.where(said == 1, np.log(hit / false), np.log((1 - hit) / (1 - false)))
            log_odds += np.where(there, vote, 0)
        p = expit(log_odds)
    return p


def interval_table(draws: int = 400) -> pd.DataFrame:
    """Width and coverage of the interval of the share of good answers."""
    facts, task, good = begin()
    truth, lines = good.mean(), []
    for labels in (100, 200):
        ours, classical = [], []
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            frame = with_acceptance(facts, good, rng)
            taught = rng.permutation(frame.index)[:labels]
            verdicts = good[taught].to_frame("good")
            half = norm.ppf(0.975) * good[taught].std() / np.sqrt(labels)
            middle = good[taught].mean()
            classical.append((middle - half, middle + half))
            found = fit_quality(frame, task, verdicts, None, **PROMISE).model.quality[""]
            ours.append((found.low, found.high))
        for name, pairs in (("labels alone", classical), ("loop_pipeline (PPI++)", ours)):
            low, high = np.array(pairs).T
            lines.append(
                {
                    "method": name,
                    "labels": labels,
                    "width": round(float((high - low).mean()), 3),
                    "coverage": round(float(((low <= truth) & (truth <= high)).mean()), 3),
                }
            )
    return pd.DataFrame(lines)


# ---- 2. FRANK ------------------------------------------------------------------------------


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

    def figures(name: str, score: pd.Series) -> dict:
        own, truth, system = score[test], human[test], rows.loc[test, "model_name"]
        return {
            "signal": name,
            "plain": round(float(np.corrcoef(own, truth)[0, 1]), 3),
            "partial": round(partial_pearson(own, truth, system), 3),
        }

    lines = [figures(name, facts[name].fillna(facts[name].mean())) for name in names]
    best = sorted(lines, key=lambda line: line["plain"])[-2:]
    best += [max(lines, key=lambda line: line["partial"])]
    lines = list({line["signal"]: line for line in best}.values())
    published = {"signal": "ridge over all (SOURCE.md)", "plain": 0.794, "partial": 0.291}
    for tasks in ("dataset", "model_name"):
        stack = fit_stack(facts, rows[tasks], human[valid])
        score = pd.Series(expit(stack.log_odds(facts, rows[tasks])), index=rows.index)
        lines.append(figures(f"loop_pipeline, task = {tasks}", score))
    return pd.DataFrame([*lines, published])


def partial_pearson(x: pd.Series, y: pd.Series, by: pd.Series) -> float:
    """Correlation of what is left when the means of each system are taken out."""
    left = [values - values.groupby(by).transform("mean") for values in (x, y)]
    return float(np.corrcoef(*left)[0, 1])


# ---- 3. PandaLM ----------------------------------------------------------------------------


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
                "accuracy": round(float(right.mean()), 3),
                "over GPT-3.5, 95%": f"[{gain[0]:+.3f}, {gain[1]:+.3f}]",
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


# ---- 4. the promise ------------------------------------------------------------------------


def simulated(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Answers of two tasks whose truth is known: 85% and 93% are good; signals are noisy."""
    index = pd.Index([f"s{i}" for i in range(n)])
    task = pd.Series(rng.choice(["a", "b"], n), index)
    good = rng.random(n) < np.where(task == "a", 0.85, 0.93)
    seen = rng.random(n) < np.where(good, 0.5, 0.8)
    accepted = seen & (rng.random(n) < np.where(good, 0.93, 0.65))
    frame = pd.DataFrame(
        {
            "grounding": np.where(good, rng.beta(5, 2, n), rng.beta(2, 3, n)),
            "accepted": accepted,
            "rejected": seen & ~accepted,
            "no_action": ~seen,
            "log_words": rng.normal(3, 1, n),
        },
        index=index,
    )
    return frame.astype(float), task, pd.Series(good, index)


def promise_table(draws: int = 600) -> pd.DataFrame:
    """The whole chain on each draw: fit, calibrate, test; then the truth on 40,000 answers."""
    frame, task, good = simulated(np.random.default_rng(99), 40_000)
    lines = []
    for labels in (300, 600):
        found: dict[str, list[float | None]] = {"swept": [], "loop_pipeline": []}
        kept: dict[str, list[float]] = {"swept": [], "loop_pipeline": []}
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            rows, own, truth = simulated(rng, labels)
            verdicts = truth.to_frame("good")
            model = fit_quality(rows, own, verdicts, None, **PROMISE).model
            scores = score_quality(model, frame, task, verdicts.iloc[:0]).set_index("prompt_id")
            value = scores["score"].astype(float)
            held = scores["threshold"].astype(float)
            fitted = model.predict(rows, own)
            swept = task.map({t: _swept(fitted[own == t], truth[own == t]) for t in ("a", "b")})
            for name, at in (("loop_pipeline", held), ("swept", swept.astype(float))):
                for t in ("a", "b"):
                    above = (value >= at) & (task == t)
                    kept[name].append(float(above.sum() / (task == t).sum()))
                    found[name].append(float(good[above].mean()) if above.any() else None)
        for name, precisions in found.items():
            broken = np.mean(
                [p is not None and p < PROMISE["target_precision"] for p in precisions]
            )
            lines.append(
                {
                    "threshold": name,
                    "reviews of both tasks": labels,
                    "promises broken": f"{broken:.1%}",
                    "allowed": f"{PROMISE['delta']:.0%} + {3 * _sd(2 * draws):.1%}",
                    "kept of all answers": f"{np.mean(kept[name]):.1%}",
                    "no threshold": f"{np.mean([p is None for p in precisions]):.1%}",
                }
            )
    return pd.DataFrame(lines)


def _sd(n: int) -> float:
    return float(np.sqrt(PROMISE["delta"] * (1 - PROMISE["delta"]) / n))


def _swept(score: pd.Series, good: pd.Series) -> float | None:
    """The loosest threshold whose precision on these rows is the target: what many teams do."""
    order = np.argsort(-score.to_numpy())
    precision = np.cumsum(good.to_numpy()[order]) / np.arange(1, len(score) + 1)
    fine = np.flatnonzero(precision >= PROMISE["target_precision"])
    return float(score.to_numpy()[order[fine[-1]]]) if len(fine) else None


if __name__ == "__main__":
    main(*sys.argv[1:])
