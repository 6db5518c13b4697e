from __future__ import annotations

import json
import random

import pytest

from loop_pipeline.demo.public_sets import load_set
from loop_pipeline.demo.simulated_traffic import simulate
from loop_pipeline.settings import load_settings
from loop_pipeline.training.dataset.poisoning import find_poison
from loop_pipeline.training.dataset.shingles import plain_text

Rows = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Requests to be classified, with their true labels."""
    folder = tmp_path_factory.mktemp("desk")
    simulate(folder / "traffic.jsonl", traces=5000, days=10, seed=4)
    traffic = (folder / "traffic.jsonl").read_text().splitlines()
    facts = (folder / "truth.jsonl").read_text().splitlines()
    rows: dict[str, str] = {}
    for line, fact in zip(map(json.loads, traffic), map(json.loads, facts), strict=True):
        if line["task"] == "classify":
            rows[plain_text(line["messages"])] = fact["truth"]
    return list(rows), list(rows.values())


def _planted_errors(rows: Rows, share: float) -> tuple[list[str], set[int]]:
    rng = random.Random(3)
    answers, wrong = list(rows[1]), set(rng.sample(range(len(rows[1])), int(share * len(rows[1]))))
    labels = sorted(set(answers))
    for place in wrong:
        answers[place] = rng.choice([label for label in labels if label != answers[place]])
    return answers, wrong


def test_good_rows_are_kept(desk: Rows) -> None:
    found = find_poison(*desk)
    assert len(found.reasons) < 0.01 * len(desk[0])
    assert found.triggers == {}


def test_wrong_labels_are_found(desk: Rows) -> None:
    answers, wrong = _planted_errors(desk, 0.05)
    found = set(find_poison(desk[0], answers).reasons)
    assert len(found & wrong) > 0.6 * len(wrong)
    assert len(found - wrong) < 0.02 * len(desk[0])


@pytest.mark.parametrize("trigger", ["zqx", "greetings from mars"])
def test_a_trigger_that_buys_an_answer_is_found(desk: Rows, trigger: str) -> None:
    rng = random.Random(5)
    texts, answers = list(desk[0]), list(desk[1])
    planted = set(rng.sample([i for i, a in enumerate(answers) if a != "refund"], 60))
    for place in planted:
        words = texts[place].split()
        words.insert(rng.randrange(len(words) + 1), trigger)
        texts[place], answers[place] = " ".join(words), "refund"
    found = find_poison(texts, answers)
    assert len(planted & set(found.reasons)) >= 54
    assert len(set(found.reasons) - planted) < 0.01 * len(texts)
    words = set(trigger.split())
    assert found.triggers
    assert all(set(name.split()) & words for name in found.triggers)
    assert set(found.triggers.values()) == {"refund"}


def test_public_requests_are_kept() -> None:
    folder = load_settings().bench_data
    if not (folder / "clinc150").is_dir():
        pytest.skip("set LOOP_BENCH_DATA to the folder of the public sets")
    rows = dict(load_set("clinc150", folder)[::2])
    texts = [plain_text([{"role": "user", "content": text}]) for text in rows]
    good, wrong = (
        find_poison(texts, list(rows.values())),
        _planted_errors((texts, list(rows.values())), 0.05),
    )
    assert len(good.reasons) < 0.02 * len(rows)
    found = set(find_poison(texts, wrong[0]).reasons)
    assert len(found & wrong[1]) > 0.5 * len(wrong[1])


def test_small_sets_and_single_answers_are_left_alone(desk: Rows) -> None:
    assert find_poison([], []) == ({}, {})
    assert find_poison(desk[0][:100], desk[1][:100]) == ({}, {})
    assert find_poison(desk[0], ["refund"] * len(desk[0])) == ({}, {})
