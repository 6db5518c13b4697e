"""Policies that this installation did not sign are shown, but nothing is built on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from benchmarks.fixtures import add_student, student
from loop_pipeline.rollout.release import advance, introduce, roles, roll_back
from loop_pipeline.rollout.stored_policies import find_document, find_policy, in_force, sign_policy
from loop_pipeline.routing.policy import BadBundle, PolicyBundle, seal
from loop_pipeline.routing.policy_files import load_signed, signed, unsigned_because
from loop_pipeline.store.policies import policy_text
from loop_pipeline.store.tables import PolicyRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import NEW, OLD

OURS, THEIRS = b"o" * 64, b"t" * 64
WHO: dict[str, Any] = {"actor": "test", "reason": "because"}


@pytest.fixture(scope="module")
def policies(world: World) -> list[PolicyBundle]:
    """Two of the champion, one of its challenger."""
    first = world.fit(student=student(OLD))
    second = world.fit(student=student(OLD), previous=first, frontier={"model": "bigger"})
    return [first, second, world.fit(student=student(NEW), previous=second)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "policies"


@pytest.fixture
def older(engine: Engine, folder: Path, policies: list[PolicyBundle]) -> Engine:
    """A store from before there were signatures."""
    for name in (OLD, NEW):
        add_student(engine, name)
    for bundle in policies[:2]:
        introduce(engine, folder, bundle, staged=True)
    return engine


@pytest.fixture
def store(older: Engine, folder: Path) -> Engine:
    """The same, signed by its operator."""
    list(sign_policy(older, folder, "active", OURS))
    return older


def write(engine: Engine, sha256: str, text: str) -> None:
    """What someone does who may write the store."""
    with engine.begin() as connection:
        own = PolicyRow.sha256 == sha256
        connection.execute(update(PolicyRow).where(own).values(bundle=text))


def test_what_comes_into_force_is_signed_in_store_and_file(store, folder, policies):
    introduce(store, folder, policies[2], staged=True, secret=OURS)
    for _ in range(4):
        bundle = advance(store, folder, secret=OURS, **WHO)
        text = find_document(store, "active")
        assert load_signed(text, OURS) == bundle
        assert (folder / f"{bundle.sha256[:16]}.json").read_text("utf-8") == text
    assert in_force(store, OURS) == policies[2]
    back = roll_back(store, folder, secret=OURS, **WHO)
    assert back == policies[1] == in_force(store, OURS)


def test_an_older_store_is_signed_by_hand_with_all_that_a_rollback_may_return_to(
    older, folder, policies
):
    assert in_force(older) == policies[1], "it is shown"
    with pytest.raises(BadBundle, match=r"is not signed; .*loop policy sign"):
        in_force(older, OURS)
    names = [bundle.sha256 for bundle in sign_policy(older, folder, "active", OURS)]
    assert names == [policies[1].sha256, policies[0].sha256]
    assert in_force(older, OURS) == policies[1]
    file = folder / f"{names[0][:16]}.json"
    assert unsigned_because(file.read_text("utf-8"), OURS) is None
    assert list(sign_policy(older, folder, "active", OURS)) == [], "the second time there is none"
    assert roll_back(older, folder, secret=OURS, **WHO) == policies[0]


def test_an_older_store_is_signed_by_the_next_regeneration(older, folder, policies, world):
    introduce(older, folder, policies[1], staged=True, secret=OURS)
    assert in_force(older, OURS) == policies[1], "fitted again it is the same policy, now signed"
    third = world.fit(student=student(OLD), previous=policies[1], frontier={"model": "other"})
    introduce(older, folder, third, staged=True, secret=OURS)
    assert in_force(older, OURS) == third


def test_a_canary_does_not_begin_beside_a_policy_that_nobody_signed(older, folder, policies):
    with pytest.raises(BadBundle, match="is not signed"):
        introduce(older, folder, policies[2], staged=True, secret=OURS)
    assert in_force(older) == policies[1]


def forged(bundle: PolicyBundle) -> PolicyBundle:
    fields = bundle.model_dump(exclude={"sha256"})
    for group in fields["groups"]:
        group["threshold"] = -1e5
    return seal(**fields)


def test_a_forged_policy_is_not_made_ours_by_any_step(store, folder, policies):
    introduce(store, folder, policies[2], staged=True, secret=OURS)
    now = in_force(store, OURS)
    assert now is not None
    assert now.canary is not None
    fields = now.model_dump(exclude={"sha256", "canary"})
    canary = {"stage": "25%", "weight": 1.0, "policy": forged(now.canary.policy).model_dump()}
    bad = seal(**fields, canary=canary)
    for text in (bad.to_text(), signed(bad, THEIRS)):
        write(store, now.sha256, text)
        with pytest.raises(BadBundle, match="policy refused"):
            advance(store, folder, secret=OURS, **WHO)
        with pytest.raises(BadBundle, match="policy refused"):
            introduce(store, folder, policies[2], staged=True, secret=OURS)
    assert roll_back(store, folder, secret=OURS, **WHO) == policies[1], "the way back stays open"
    assert in_force(store, OURS) == policies[1]


def test_a_rollback_does_not_return_to_a_forged_policy(store, folder, policies):
    write(store, policies[0].sha256, forged(policies[0]).to_text())
    with pytest.raises(BadBundle, match="is not signed"):
        roll_back(store, folder, secret=OURS, **WHO)
    assert in_force(store, OURS) == policies[1]


def test_an_unsigned_policy_names_nobody_to_serve(older, policies):
    named = {role: row["checkpoint_id"] for role, row in roles(older).items()}
    assert named == {"champion": OLD, "challenger": NEW}
    named = {role: row["checkpoint_id"] for role, row in roles(older, OURS).items()}
    assert named == {"champion": NEW, "previous": OLD}


def test_signing_does_not_mend_an_altered_policy(older, folder, policies):
    text = policies[1].to_text().replace('"delta":0.05', '"delta":0.06')
    write(older, policies[1].sha256, text)
    with pytest.raises(BadBundle, match="says sha256"):
        list(sign_policy(older, folder, policies[1].sha256[:12], OURS))
    assert policy_text(older, policies[1].sha256) == text


def test_a_policy_is_found_by_what_a_person_would_call_it(store, policies):
    assert find_policy(store, "active") == policies[1]
    assert find_policy(store, "previous") == policies[0]
    assert find_policy(store, policies[0].sha256[:10]) == policies[0]
