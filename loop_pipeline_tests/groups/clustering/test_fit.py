"""Groups respect templates and row budgets, and their ids outlive a refit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.groups.clustering.fit import Groups, fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows

TOPICS = {
    "travel": [
        "flight",
        "hotel",
        "airport",
        "luggage",
        "boarding",
        "passport",
        "seat",
        "visa",
        "train",
        "ticket",
    ],
    "money": [
        "card",
        "bank",
        "transfer",
        "balance",
        "invoice",
        "refund",
        "credit",
        "loan",
        "account",
        "fee",
    ],
    "health": [
        "doctor",
        "pharmacy",
        "allergy",
        "vaccine",
        "clinic",
        "fever",
        "dentist",
        "nurse",
        "therapy",
        "pain",
    ],
}


def requests(n=1_500, seed=0, template="t1") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    topics = rng.choice(list(TOPICS), n)
    return pd.DataFrame(
        {
            "prompt_id": [f"{template}-{seed}-{i:05d}" for i in range(n)],
            "text": [" ".join(rng.choice(TOPICS[t], 5)) for t in topics],
            "template_hash": template,
            "task": "support",
            "topic": topics,
        }
    )


FRAME = requests()
EMBEDDER = Embedder.fit(FRAME["text"].tolist(), seed=0)


def fit(frame=FRAME, embedder=EMBEDDER, previous=None, calibration_rows=3_000, **more):
    return fit_groups(frame, embedder, previous=previous, calibration_rows=calibration_rows, **more)


def test_topics_are_found_named_and_placed_on_the_map():
    groups = fit()
    members = member_rows(groups, FRAME, EMBEDDER)
    assert len(groups.active) == 3
    for group in groups.active:
        own = FRAME["topic"][members["group_id"] == group.group_id]
        (topic,) = set(own)
        assert set(group.terms) <= set(TOPICS[topic])
        assert group.name.startswith("support: ")
        assert set(group.exemplars) <= set(FRAME["prompt_id"])
    assert (members["group_id"] == "unassigned").mean() < 0.03
    assert members["x"].std() > 0.1
    assert list(members) == ["prompt_id", "group_id", "leaf_id", "distance", "x", "y"]


def test_the_same_rows_in_any_order_give_the_same_groups():
    shuffled = fit(FRAME.sample(frac=1, random_state=5))
    assert shuffled == fit()
    assert shuffled.version == fit().version


def test_ids_and_renamed_names_survive_a_refit_that_shares_75_percent():
    draw = np.random.default_rng(1).random(len(FRAME))
    first = fit(FRAME[draw < 0.875])
    first.groups[0].name, first.groups[0].renamed = "named by a person", True
    second = fit(FRAME[draw >= 0.125], previous=first)
    assert {g.group_id for g in second.active} == {g.group_id for g in first.active}
    assert second.groups[0].name == "named by a person"
    before, after = (member_rows(g, FRAME, EMBEDDER)["group_id"] for g in (first, second))
    assert (before == after).mean() >= 0.93


def test_ids_survive_a_new_embedder_through_their_members():
    first = fit()
    old = member_rows(first, FRAME, EMBEDDER)
    newer = Embedder.fit(FRAME["text"].tolist()[:700], seed=9)
    with pytest.raises(ValueError, match="pass the old group_id"):
        fit(embedder=newer, previous=first)
    frame = FRAME.merge(old[["prompt_id", "group_id"]])
    second = fit(frame, newer, previous=first)
    new = member_rows(second, FRAME, newer)["group_id"]
    both = (new != "unassigned") & (old["group_id"] != "unassigned")
    assert both.mean() >= 0.9
    assert (new[both] == old.loc[both, "group_id"]).mean() >= 0.98


@pytest.mark.parametrize(("calibration_rows", "expected"), [(0, 1), (1_599, 1), (2_400, 3)])
def test_a_group_can_expect_its_calibration_rows(calibration_rows, expected):
    assert len(fit(calibration_rows=calibration_rows).active) == expected


def test_groups_never_cross_a_template_and_small_templates_beyond_the_limit_get_none():
    other = requests(300, seed=1, template="t2")
    tiny = requests(5, seed=2, template="t3")
    frame = pd.concat([FRAME, other, tiny])
    groups = fit(frame, max_groups=2, calibration_rows=0)
    assert {g.template_hash for g in groups.active} == {"t1", "t2"}
    members = member_rows(groups, frame, EMBEDDER).set_index("prompt_id")["group_id"]
    template = {g.group_id: g.template_hash for g in groups.active}
    own = frame.set_index("prompt_id")["template_hash"]
    assigned = members[members != "unassigned"]
    assert (assigned.map(template) == own[assigned.index]).all()
    assert (members[tiny["prompt_id"]] == "unassigned").all()


def test_a_template_that_went_away_retires_its_group():
    first = fit(pd.concat([FRAME, requests(300, seed=1, template="t2")]), calibration_rows=0)
    second = fit(previous=first, calibration_rows=0)
    status = {g.template_hash: g.status for g in second.groups}
    assert status == {"t1": "active", "t2": "retired"}


def test_strange_requests_are_unassigned():
    strange = FRAME.head(3).assign(text=["", "zzz qqq xxx", "Ж я ы щ"])
    found = member_rows(fit(), strange, EMBEDDER)
    assert set(found["group_id"]) == {"unassigned"}
    assert np.isfinite(found["distance"]).all()


def test_rows_of_the_table_and_json_come_back_as_they_were():
    groups = fit()
    assert Groups.from_rows(groups.to_rows()) == groups
    assert Groups.model_validate_json(groups.model_dump_json()) == groups
    assert Groups.from_rows(groups.to_rows().iloc[:0]) is None


def test_identical_requests_make_one_group_and_no_rows_an_error():
    assert len(fit(FRAME.assign(text="the same words again")).active) == 1
    with pytest.raises(ValueError, match="import traces first"):
        fit(FRAME.iloc[:0])
