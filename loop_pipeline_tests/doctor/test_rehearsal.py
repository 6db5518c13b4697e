"""Tables of outcomes: what is refused, and what policy is made of the rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.outcome_table import BadTable, OutcomeTable, read_table
from loop_pipeline.doctor.rehearsal import rehearse

WORDS = ["flight", "hotel", "card", "bank", "invoice", "refund", "doctor", "clinic"]
LAW = ["appeal", "court", "visa", "judge", "statute", "refuge", "lawyer", "treaty"]


MIDDLE = 1


def rows(n: int = 80, **changes: Any) -> list[dict[str, Any]]:
    """A table of two models as a file holds it."""
    plain = {"small.quality": 1, "small.cost": 0.001, "big.quality": 1, "big.cost": 0.01}
    return [{"prompt_id": f"p{i}", "text": f"request {i}", **plain, **changes} for i in range(n)]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    else:
        path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_both_formats_hold_the_same_table(tmp_path, suffix):
    lines = rows(60, group="travel")
    lines[3]["text"] = 'two\nlines, a comma and a "quote"'
    lines[2]["text"] = "x" * 1_000_000
    lines[4] |= {"small.quality": "", "text": "left out"}
    for i, line in enumerate(lines):
        line["small.score"] = i / 60
    found = read_table(write(tmp_path / f"t.{suffix}", lines))
    assert found.models == ["small", "big"]
    assert found.texts[3] == lines[3]["text"]
    assert found.groups == ["travel"] * 59
    assert found.notes == ["1 of 60 rows lack a quality or a cost and are left out"]
    assert found.score["small"][-1] == pytest.approx(59 / 60)
    assert found.cost.tolist()[0] == [0.001, 0.01]


def test_names_of_models_may_hold_dots(tmp_path):
    lines = [{k.replace("big", "gemini-2.0"): v for k, v in line.items()} for line in rows(60)]
    assert read_table(write(tmp_path / "t.csv", lines)).models == ["small", "gemini-2.0"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no rows"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n", "has no rows"),
        (b"id,text\n1,x\n", "lacks the columns prompt_id"),
        (b"prompt_id,text,a.quality,b.quality,b.cost\n1,x,1,1,1\n", "lacks the columns a.cost"),
        (b"prompt_id,text,a.quality,a.cost\n1,x,1,1\n", "only 'a' has a column"),
        (b"prompt_id,text,score\n1,x,1\n", "no model has a column"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,2,1,1,1\n", "a.quality is 2, not"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,1,-1,1,1\n", "a.cost is -1, not"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,inf,1,1,1\n", "is inf, not from"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,yes,1,1,1\n", "'yes', not a num"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,1,1,1,1\n1,y,1,1,1,1\n", "'1' st"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,x,1,1,1,1\n", "has 1 usable rows"),
        (b"prompt_id,text,a.quality,a.cost,b.quality,b.cost\n1,\xff,1,1,1,1\n", "is not UTF-8"),
        (b'prompt_id,text,a.quality\n1,"x,1\n', "is no CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, content, says):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadTable, match=r"^[^\n]+$") as error:
        read_table(path)
    assert says in str(error.value)


@pytest.mark.parametrize("line", ["[1, 2]", "no json", "{" * 5_000, '"x"'])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(rows(1)[0]) + "\n\n" + line + "\n")
    with pytest.raises(BadTable, match=r"t\.jsonl, line 3: not a JSON object"):
        read_table(path)


def test_more_cells_than_columns_are_told(tmp_path):
    path = write(tmp_path / "t.csv", rows(60))
    path.write_text(path.read_text() + "p99,text,1,1,1,1,7,8\n")
    with pytest.raises(BadTable, match="row 61: more cells than columns"):
        read_table(path)


def table(n: int = 2_400, seed: int = 0, **changes: Any) -> OutcomeTable:
    """Three models; the small one fails in half of the requests about law."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.3
    texts = [" ".join([*rng.choice(LAW if hard[i] else WORDS, 6), f"n{i:04d}"]) for i in range(n)]
    small = np.where(hard, rng.random(n) < 0.5, rng.random(n) < 0.995)
    middle = rng.random(n) < 0.97
    quality = np.column_stack([small, middle, np.ones(n)]).astype(float)
    plain: dict[str, Any] = {
        "source": "test",
        "prompt_ids": [f"p{i}" for i in range(n)],
        "texts": texts,
        "groups": None,
        "models": ["small", "middle", "big"],
        "quality": quality,
        "cost": np.tile([0.001, 0.006, 0.01], (n, 1)),
        "score": {},
        "notes": [],
    }
    return OutcomeTable(**(plain | changes))


def test_three_models_are_routed_and_the_promise_is_kept():
    found = rehearse(table())
    assert found.models[found.reference] == "big"
    assert found.weak == 0
    report = diagnose(found, resamples=200)
    assert report.earns
    policy = report.router("policy")
    assert policy.agreement is not None
    assert policy.agreement.value > 0.95
    assert policy.share_away > 0.4
    assert {group.model for group in report.groups} <= {"small", "middle"}


def test_no_row_is_in_two_parts_and_copies_of_a_text_stay_together():
    texts = [f"request {i // 3}" if i % 3 else f"Request  {i // 3}" for i in range(1_200)]
    found = rehearse(table(1_200, texts=texts))
    assert sum(found.rows.values()) == 1_200
    assert all(size % 3 == 0 for size in found.rows.values())


def test_delta_is_shared_over_groups_and_models():
    """With as many groups as there are here none could promise anything for 60 rows each."""
    groups = [f"g{i % 12}" for i in range(2_400)]
    many = rehearse(table(groups=groups, quality=np.ones((2_400, 3))))
    assert many.reference == 0, "of equally good models the cheapest is the reference"
    quality = np.column_stack([np.ones(2_400), np.ones(2_400), np.ones(2_400)])
    quality[::2, 0], quality[::3, 1] = 0, 0
    few = rehearse(table(groups=groups, quality=quality))
    assert all(group.model is None for group in few.certified)
    assert {group.certificate.n for group in few.certified} <= set(range(40, 90))


def test_a_group_takes_the_model_with_which_it_costs_least():
    """The small model can be promised for little of the group, the middle one for all of it."""
    n = 2_400
    rng = np.random.default_rng(1)
    small = rng.random(n) < 0.9
    quality = np.column_stack([small, np.ones(n), np.ones(n)]).astype(float)
    quality[::50, 1] = 0  # so that big is the best
    score = {"small": np.where(small, rng.random(n), rng.random(n) - 0.3), "middle": rng.random(n)}
    found = rehearse(table(n, quality=quality, groups=["a"] * n, score=score))
    [group] = found.certified
    assert group.model == MIDDLE
    assert (found.chosen == MIDDLE).mean() > 0.8
    assert found.paid.mean() < found.cost[:, 2].mean()


def test_a_score_of_the_answer_is_paid_for_even_if_it_is_passed_on():
    n = 1_000
    rng = np.random.default_rng(2)
    good = rng.random(n) < 0.85
    quality = np.column_stack([good, np.ones(n)]).astype(float)
    shared: dict[str, Any] = {
        "models": ["small", "big"],
        "quality": quality,
        "cost": np.tile([0.001, 0.01], (n, 1)),
        "groups": ["a"] * n,
    }
    found = rehearse(table(n, score={"small": good + 0.01 * rng.random(n)}, **shared))
    passed = found.chosen == found.reference
    assert 0 < passed.mean() < 1
    assert found.after_answer
    assert found.paid[passed] == pytest.approx(0.011)
    assert found.paid[~passed] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quality": np.ones((900, 3))}, "There is nothing to route"),
        ({"quality": np.zeros((900, 3))}, "There is nothing to route"),
        (
            {"score": {"small": np.ones(900), "middle": np.ones(900)}},
            "all scores are equal",
        ),
        ({"score": {"small": np.full(900, np.nan)}}, "It"),
        ({"texts": ["a word"] + ["the same request every time"] * 899}, "cannot be split"),
        ({"texts": ["?!"] * 900}, "cannot be split"),
        ({"texts": [f"{'? ' * (i + 1)}" for i in range(900)]}, "none of the"),
        ({"groups": [f"g{i}" for i in range(900)]}, "in no group can 95% agreement be promised"),
        ({"cost": np.zeros((900, 3))}, "There is nothing to route"),
    ],
)
def test_what_cannot_be_said_is_said(changes, says):
    try:
        words = diagnose(rehearse(table(900, **changes)), resamples=50).verdict
    except BadTable as error:
        words = str(error)
    assert says in words


def test_the_same_table_gives_the_same_bytes():
    first, second = (diagnose(rehearse(table(900)), resamples=50).to_json() for _ in range(2))
    assert first == second
