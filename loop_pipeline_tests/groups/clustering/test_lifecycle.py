"""Groups are born, split, merged and retired by their rules, and every change is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.clustering.kmeans import kmeans
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows
from loop_pipeline.groups.registry import Groups

WORDS = {
    "travel": "flight hotel airport luggage boarding passport seat visa train ticket",
    "money": "card bank transfer balance invoice refund credit loan account fee",
    "health": "doctor pharmacy allergy vaccine clinic fever dentist nurse therapy pain",
    "garden": "tulip shovel compost lawn hedge watering seedling mulch pruning orchard",
}


def requests(start=0, **sizes: int) -> pd.DataFrame:
    """Requests of five words of their topic, numbered from ``start``."""
    rng = np.random.default_rng(start)
    topics = [topic for topic, n in sizes.items() for _ in range(n)]
    texts = [" ".join(rng.choice(WORDS[t].split(), 5)) for t in topics]
    ids = [f"p{start + i:06d}" for i in range(len(topics))]
    frame = pd.DataFrame({"prompt_id": ids, "text": texts, "topic": topics})
    return frame.assign(template_hash="t", task="support", new=True)


EVERYTHING = requests(0, travel=300, money=300, health=300, garden=300)
EMBEDDER = Embedder.fit(EVERYTHING["text"].tolist(), seed=0)
OLD = requests(0, travel=600, money=600)


def fit(frame, previous=None, calibration_rows=2_000, **more) -> Groups:
    return fit_groups(frame, EMBEDDER, previous=previous, calibration_rows=calibration_rows, **more)


def after(frame, news) -> pd.DataFrame:
    """What is known at the next refit."""
    return pd.concat([frame.assign(new=False), news], ignore_index=True)


def told(groups: Groups, previous: Groups | None) -> list[str]:
    return sorted(
        change.kind for change in groups.changes_since(previous) if _parent(groups, change)
    )


def _parent(groups: Groups, change) -> bool:
    parents = {g.group_id for g in groups.groups if g.parent_id is None}
    return (change.to_id or change.from_id) in parents


def group_of(groups: Groups, topic: str) -> str:
    rows = EVERYTHING[EVERYTHING["topic"] == topic]
    return member_rows(groups, rows, EMBEDDER)["group_id"].mode()[0]


FIRST = fit(OLD)


def test_a_topic_that_no_group_takes_is_born_when_it_is_seen_at_two_refits() -> None:
    assert told(FIRST, None) == ["born", "born"]
    one = after(OLD, requests(10_000, travel=60, money=60, garden=80))
    second = fit(one, FIRST)
    assert told(second, FIRST) == []
    assert [g.status for g in second.groups if g.status == "candidate"] == ["candidate"]
    assert group_of(second, "garden") == "unassigned"
    two = after(one, requests(20_000, travel=60, money=60, garden=40))
    third = fit(two, second)
    [born] = [change for change in third.changes_since(second) if _parent(third, change)]
    assert told(third, second) == ["born"]
    assert group_of(third, "garden") == born.to_id
    assert born.to_id in {g.group_id for g in second.groups}  # the candidate's id
    for topic in ("travel", "money"):
        assert group_of(third, topic) == group_of(FIRST, topic)


def test_a_candidate_without_new_requests_waits_and_few_requests_are_none() -> None:
    one = after(OLD, requests(10_000, garden=80))
    second = fit(one, FIRST)
    assert told(fit(one.assign(new=False), second), second) == []
    few = fit(after(OLD, requests(10_000, garden=40)), FIRST)
    assert {g.status for g in few.groups} == {"active"}


def test_the_same_words_again_and_again_are_one_request() -> None:
    again = requests(10_000, garden=80).assign(text="tulip shovel compost lawn hedge")
    assert {g.status for g in fit(after(OLD, again), FIRST).groups} == {"active"}


def test_a_newborn_waits_while_there_is_no_room() -> None:
    one = after(OLD, requests(10_000, garden=80))
    second = fit(one, FIRST, max_groups=2)
    third = fit(after(one, requests(20_000, garden=40)), second, max_groups=2)
    [waiting] = [g for g in third.groups if g.status == "candidate"]
    assert (waiting.streak, waiting.reason) == (2, "there is no room")


def test_a_group_that_holds_two_stable_halves_is_split_once_it_is_large_enough() -> None:
    whole = fit(OLD, calibration_rows=500)
    assert len(whole.active) == 1
    more = after(OLD, requests(10_000, travel=600, money=600))
    assert told(fit(more, whole, calibration_rows=1_500), whole) == []
    parted = fit(more, whole, calibration_rows=1_800)
    [change] = [c for c in parted.changes_since(whole) if _parent(parted, c)]
    assert (change.kind, change.from_id) == ("split", whole.active[0].group_id)
    assert group_of(parted, "travel") != group_of(parted, "money")
    assert {group_of(parted, "travel"), group_of(parted, "money")} == {change.from_id, change.to_id}


@pytest.mark.parametrize(("worse", "kinds"), [(0.5, ["split"]), (0.95, [])])
def test_a_group_whose_parts_differ_in_quality_is_split_before(worse: float, kinds) -> None:
    whole = fit(OLD, calibration_rows=500)
    rng = np.random.default_rng(0)
    good = np.where(OLD["topic"] == "money", rng.random(1200) < worse, rng.random(1200) < 0.95)
    parted = fit(OLD.assign(quality=good.astype(float)), whole, calibration_rows=1_000)
    assert told(parted, whole) == kinds


def test_quality_by_chance_splits_nothing() -> None:
    whole = fit(OLD, calibration_rows=500)
    for seed in range(20):
        chance = np.random.default_rng(seed).random(1200).round()
        assert told(fit(OLD.assign(quality=chance), whole, calibration_rows=1_000), whole) == []


def test_groups_that_have_come_to_mean_the_same_are_merged_into_the_larger() -> None:
    travel = FIRST.model_copy(deep=True)
    twin = next(g for g in travel.active if g.group_id == group_of(FIRST, "travel"))
    noise = np.random.default_rng(0).normal(0, 0.02, len(twin.centroid))
    shifted = np.array(twin.centroid) + noise
    copy = twin.model_copy(
        update={"group_id": "twin", "centroid": (shifted / np.linalg.norm(shifted)).tolist()}
    )
    travel.groups.append(copy)
    merged = fit(OLD, travel)
    [change] = [c for c in merged.changes_since(travel) if c.kind == "merged"]
    assert {change.from_id, change.to_id} == {"twin", twin.group_id}
    gone = next(g for g in merged.groups if g.group_id == change.from_id)
    assert (gone.status, gone.related_id, gone.size) == ("merged", change.to_id, 0)
    assert len(merged.active) == 2


def test_a_group_under_one_percent_of_the_new_requests_retires_at_the_fourth_refit() -> None:
    known = frame = requests(0, travel=600, money=600)
    groups = fit(frame)
    kinds = []
    for refit in range(4):
        frame = after(frame, requests(10_000 * (refit + 1), travel=500))
        known, groups = groups, fit(frame, groups)
        kinds.append(told(groups, known))
    assert kinds == [[], [], [], ["retired"]]
    [retired] = [g for g in groups.groups if g.status == "retired" and not g.parent_id]
    assert retired.group_id == group_of(FIRST, "money")
    assert retired.name
    assert "under 1%" in retired.reason


def test_the_same_rows_give_the_same_bytes_and_a_refit_on_them_changes_no_id() -> None:
    frame = after(OLD, requests(10_000, travel=200, money=200, garden=90))
    once, shuffled = fit(frame, FIRST), fit(frame.sample(frac=1, random_state=3), FIRST)
    assert once.model_dump_json() == shuffled.model_dump_json()
    again = fit(frame.assign(new=False), once)
    assert told(again, once) == []
    old, new = (member_rows(g, frame, EMBEDDER)["group_id"] for g in (once, again))
    assert (old == new).mean() > 0.98


def test_leaves_part_their_parent_and_keep_their_ids_and_names() -> None:
    frame = EVERYTHING
    groups = fit(frame, calibration_rows=800)
    [parent] = groups.active
    assert {leaf.parent_id for leaf in groups.leaves} == {parent.group_id}
    members = member_rows(groups, frame, EMBEDDER)
    inside = members["leaf_id"].notna()
    assert (members.loc[inside, "group_id"] == parent.group_id).all()
    by_leaf = frame.loc[inside, "topic"].groupby(members.loc[inside, "leaf_id"])
    assert (by_leaf.agg(lambda t: t.value_counts(normalize=True).iloc[0]) > 0.95).all()
    groups.leaves[0].name, groups.leaves[0].renamed = "chosen", True
    again = fit(after(frame, requests(10_000, travel=100, money=100, health=100)), groups, 800)
    assert {g.group_id for g in groups.leaves} <= {g.group_id for g in again.leaves}
    assert "chosen" in {g.name for g in again.leaves}
    assert groups.version == Groups.from_rows(groups.to_rows()).version  # pyright: ignore


def test_leaves_follow_their_parent_through_a_split() -> None:
    whole = fit(EVERYTHING, calibration_rows=800)
    parted = fit(EVERYTHING, whole, calibration_rows=3_300)
    assert len(parted.active) > 1
    assert {g.parent_id for g in parted.leaves} <= {g.group_id for g in parted.active}
    assert {g.group_id for g in whole.leaves} <= {g.group_id for g in parted.groups}


def test_a_new_embedder_ends_an_id_whose_members_it_scatters() -> None:
    members = member_rows(FIRST, OLD, EMBEDDER)[["prompt_id", "group_id", "leaf_id"]]
    newer = Embedder.fit(OLD["text"].tolist(), seed=9)
    kept = fit_groups(
        OLD.merge(members, on="prompt_id"), newer, previous=FIRST, calibration_rows=2_000
    )
    assert {g.group_id for g in kept.active} == {g.group_id for g in FIRST.active}
    mixed = members.assign(group_id=np.random.default_rng(0).permutation(members["group_id"]))
    other = fit_groups(
        OLD.merge(mixed, on="prompt_id"), newer, previous=FIRST, calibration_rows=2_000
    )
    assert not {g.group_id for g in other.active} & {g.group_id for g in FIRST.active}
    ended = [g for g in other.groups if g.status == "retired" and not g.parent_id]
    assert {g.group_id for g in ended} == {g.group_id for g in FIRST.active}
    assert all("members together" in g.reason for g in ended)


def test_an_emptied_centroid_stays_where_it_was() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    centroids = kmeans(vectors, np.eye(3, dtype=np.float32))
    assert np.array_equal(centroids[2], np.eye(3)[2])
    assert nearest(vectors, centroids)[0].tolist() == [0, 0, 1]
