from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from loop_pipeline.demo.phrases import LABELS
from loop_pipeline.demo.simulated_traffic import simulate
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.store.database import open_store
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.training.dataset.selection import Selection, select_rows
from loop_pipeline.training.dataset.splits import split_traces

Make = Callable[..., pd.DataFrame]
WORDS = (
    *("card", "parcel", "refund", "invoice", "account", "password"),
    *("order", "device", "screen", "battery", "address", "city"),
)


def _select(pairs: pd.DataFrame, traces: pd.DataFrame, **known: Any) -> Selection:
    return select_rows(pairs, traces, **({"reviewed": set(), "trained": set()} | known))


def _texts(n: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [f"{' '.join(rng.sample(WORDS, 6))} ref{i}" for i in range(n)]


def test_the_best_copy_is_kept_and_knows_how_often_it_was_asked(
    traces_of: Make, pairs_of: Make
) -> None:
    text = "where is the card that i have ordered"
    traces = traces_of(
        {"text": text, "output": "refund"},
        {"text": f"Hi! {text}", "output": "delivery"},
        {"text": text + "?", "output": "delivery"},
        {"text": "a request of its own", "output": "refund"},
        {"text": text, "output": "delivery", "template_hash": "other"},
    )
    pairs = pairs_of(traces, score=[0.99, 0.5, 0.9, 0.9, 0.9])
    found = _select(pairs, traces)
    assert found.rows[["prompt_id", "multiplicity"]].values.tolist() == [
        ["p00000", 3],
        ["p00003", 1],
        ["p00004", 1],
    ]
    assert dict(found.excluded.values) == {
        "p00001": "another answer to the request of p00000",
        "p00002": "another answer to the request of p00000",
    }
    assert (found.counts["copies"], found.counts["conflicts"]) == (2, 2)
    pairs.loc[1, "chosen"] = "exchange"  # a person's edit beats any score
    assert _select(pairs, traces).rows["prompt_id"].iloc[0] == "p00001"
    even = pairs.assign(score=0.9, chosen=traces["output"])
    assert _select(even, traces).rows["prompt_id"].iloc[0] == "p00002"  # the newest


def test_another_question_on_the_same_document_is_no_copy(traces_of: Make, pairs_of: Make) -> None:
    rng = random.Random(0)
    document = " ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(300))
    asked = ["who signed the contract", "when does the contract end", "who signed the contract!"]
    traces = traces_of(*({"text": f"{document} {question}", "label": False} for question in asked))
    assert traces["unit"].nunique() == 1
    found = _select(pairs_of(traces), traces)
    assert found.rows["prompt_id"].tolist() == ["p00001", "p00002"]


def test_what_touches_a_held_out_row_is_left_out_and_says_what_it_touches(
    traces_of: Make, pairs_of: Make
) -> None:
    traces = traces_of(
        {"text": "where is the card that i ordered", "split": "train"},
        {"text": "my parcel never came to the house", "split": "train"},
        {"text": "the invoice is wrong again", "split": "validation"},
        {"text": "please call me back tomorrow", "split": "gold"},
    )
    traces.loc[4] = traces.loc[3]
    traces.loc[4, ["prompt_id", "text", "unit"]] = ["p9", "where is the card that i ordered", "p9"]
    found = _select(pairs_of(traces), traces)
    assert found.rows["prompt_id"].tolist() == ["p00001", "p00002"]
    assert dict(found.excluded.values) == {"p00000": "the same request is held out: p9"}
    assert found.counts["held_out"] == 2
    assert found.counts["touching_held_out"] == 1


def test_nobody_brings_more_than_a_share(traces_of: Make, pairs_of: Make) -> None:
    texts = _texts(1200)
    loud = {"user_hash": "loud"}
    rows = [
        {"text": text} | (loud if i < 300 else {"user_hash": f"u{i}"})
        for i, text in enumerate(texts)
    ]
    traces = traces_of(*rows)
    pairs = pairs_of(traces, score=[1 - i / 2000 for i in range(1200)])
    found = _select(pairs, traces)
    kept = found.rows[found.rows["user_hash"] == "loud"]
    assert kept["prompt_id"].tolist() == [f"p{i:05d}" for i in range(20)]  # the best stay
    assert found.counts["capped"] == 280
    assert set(found.excluded["reason"]) == {"its user brings more than 20 rows"}
    one_account = traces.assign(user_hash="service")
    assert len(_select(pairs, one_account).rows) == 1200


def test_one_wording_brings_no_more_than_its_share(traces_of: Make, pairs_of: Make) -> None:
    rows = [{"text": text} for text in _texts(1000)]
    rows += [{"text": f"is the order {10_000 + i} on its way"} for i in range(300)]
    traces = traces_of(*rows)
    found = _select(pairs_of(traces), traces)
    alike = found.rows["text"].str.startswith("is the order")
    assert alike.sum() == 26  # 2% of 1,300


def test_a_capped_row_of_an_earlier_set_comes_back(traces_of: Make, pairs_of: Make) -> None:
    texts = _texts(800)
    rows = [{"text": t, "user_hash": "a" if i < 300 else f"u{i}"} for i, t in enumerate(texts)]
    traces = traces_of(*rows)
    pairs = pairs_of(traces)
    first = set(_select(pairs, traces).rows["prompt_id"])
    trained = {f"p{i:05d}" for i in range(300)}
    second = _select(pairs, traces, trained=trained)
    back = second.rows[second.rows["replayed"]]
    assert set(back["prompt_id"]) <= trained - first
    assert second.counts["replayed"] == len(back) == len(first) // 10
    assert not set(back["prompt_id"]) & set(second.excluded["prompt_id"])


def test_preferences_and_feedback_pass_the_same_guards(traces_of: Make, pairs_of: Make) -> None:
    traces = traces_of(
        {"text": "where is the card that i ordered", "label": False},
        {"text": "Where is the card that I ordered??", "label": False},
        {"text": "my parcel never came to the house", "label": False},
        {"text": "the invoice is wrong again", "split": "gold", "label": False},
        {"text": "the battery is dead", "split": "validation", "label": False},
    )
    traces.loc[5] = traces.loc[3]
    traces.loc[5, ["prompt_id", "text"]] = ["p9", "my parcel never came to the house"]
    kinds = [
        pairs_of(traces, "sft"),
        pairs_of(traces, "dpo", chosen="good", rejected="bad"),
        pairs_of(traces, "kto_pos"),
        pairs_of(traces, "kto_neg", chosen=None, rejected="bad"),
    ]
    found = _select(pd.concat(kinds, ignore_index=True), traces)
    assert found.rows["prompt_id"].tolist() == ["p00001", "p00004"]
    assert found.preferences["prompt_id"].tolist() == ["p00001"]
    assert found.feedback[["prompt_id", "kind"]].values.tolist() == [
        ["p00001", "kto_neg"],
        ["p00001", "kto_pos"],
    ]
    assert dict(found.excluded.values) == {
        "p00000": "a copy of p00001",
        "p00002": "the same request is held out: p9",
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Pairs and settled traces of simulated traffic, a few answers of which a student gave."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder / "traffic.jsonl", traces=4000, days=8, seed=9)
    lines = (folder / "traffic.jsonl").read_text().splitlines()
    by_student = [
        line.replace('"producer": "frontier"', '"producer": "student"') if i % 10 == 0 else line
        for i, line in enumerate(lines)
    ]
    (folder / "traffic.jsonl").write_text("\n".join(by_student) + "\n")
    engine = open_store(f"sqlite:///{folder}/loop.db")
    import_file(engine, folder / "traffic.jsonl", secret=lambda: b"s" * 32)
    traces = read_traces(engine)
    scores = traces[["prompt_id"]].assign(score=0.97, threshold=0.9, origin="model", version="v")
    feedback = read_feedback(engine)
    pairs = label_pairs(
        traces,
        feedback,
        flag_hallucinations(traces, tiers=Tiers()),
        scores,
        verdicts(feedback),
        tiers=Tiers(),
    )
    settled = split_traces(engine).merge(traces[["prompt_id", "producer"]], on="prompt_id")
    engine.dispose()
    return pairs, settled, folder


def test_the_guards_hardly_touch_clean_traffic(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Path],
) -> None:
    pairs, traces, _ = simulated
    found = _select(pairs, traces)
    counts = found.counts
    assert counts["positive_pairs"] > 3000
    dropped = counts["touching_held_out"] + counts["poisoned"] + counts["capped"]
    assert dropped < 0.02 * (counts["positive_pairs"] - counts["held_out"])
    assert counts["copies"] < 0.08 * counts["positive_pairs"]
    assert found.triggers == {}


def test_an_answer_of_a_student_is_learned_only_as_a_person_left_it(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Path],
) -> None:
    pairs, traces, _ = simulated
    found = _select(pairs, traces)
    learned = pd.concat([found.rows, found.feedback[found.feedback["kind"] == "kto_pos"]])
    own = learned[learned["producer"] == "student"]
    assert (traces["producer"] == "student").sum() == 400
    assert len(own) > 0
    assert (own["chosen"] != own["output"]).all()


def test_a_reviewed_answer_is_kept_whatever_the_others_say(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Path],
) -> None:
    pairs, traces, _ = simulated
    pairs = pairs[pairs["kind"] == "sft"]
    train = traces.loc[traces["label"] & (traces["split"] == "train"), "prompt_id"]
    rng = random.Random(1)
    wrong = set(rng.sample(sorted(set(train) & set(pairs["prompt_id"])), 60))
    answers = [
        rng.choice(LABELS) if prompt_id in wrong else chosen
        for prompt_id, chosen in zip(pairs["prompt_id"], pairs["chosen"], strict=True)
    ]
    found = _select(pairs.assign(chosen=answers), traces)
    caught = wrong & set(found.excluded["prompt_id"])
    assert len(caught) > 20
    reviewed = _select(pairs.assign(chosen=answers), traces, reviewed=wrong)
    assert reviewed.counts["poisoned"] < found.counts["poisoned"] - 20
