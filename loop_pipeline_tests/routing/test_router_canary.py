"""A canary: sticky shares, certificates of its own, the champion where it has none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.fixtures import student
from loop_pipeline.routing.decision import Decision
from loop_pipeline.routing.policy import PolicyBundle, load_bundle, seal, with_canary
from loop_pipeline.routing.router import Router
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import NEW, OLD


@pytest.fixture(scope="module")
def champion(world: World) -> PolicyBundle:
    return world.fit(student=student(OLD))


@pytest.fixture(scope="module")
def challenger(world: World, champion: PolicyBundle) -> PolicyBundle:
    return world.fit(student=student(NEW), previous=champion)


def at(champion, challenger, weight) -> PolicyBundle:
    return with_canary(champion, challenger, "5%", weight)


def ask(text):
    return [{"role": "user", "content": text}]


def decisions(router, world, rows=200, **more) -> list[Decision]:
    texts = world.answers[world.answers["group_id"] != "unassigned"].head(rows)
    return [
        router.decide(ask(row["text"]), row["prompt_id"], row["template_hash"], **more)
        for _, row in texts.iterrows()
    ]


def test_the_champions_promises_stay_as_they_are(champion, challenger):
    bundle = at(champion, challenger, 0.05)
    assert bundle.parent == champion.sha256
    same = json.loads(bundle.to_text())
    canary = same.pop("canary")
    assert same.pop("exploration_rate") == 0.2, "only more is shadowed meanwhile"
    own = {"sha256": champion.sha256, "parent": champion.parent, "exploration_rate": 0.02}
    assert same | own == json.loads(champion.to_text())
    assert PolicyBundle.model_validate(canary["policy"]).to_text() == challenger.to_text()
    assert load_bundle(bundle.to_text()).to_text() == bundle.to_text()
    assert at(champion, challenger, 0.05).to_text() == bundle.to_text()
    assert '"canary"' not in champion.to_text()


def test_a_document_of_version_1_keeps_its_bytes(champion):
    plain = json.loads(champion.to_text())
    old = seal(**{k: v for k, v in plain.items() if k != "sha256"} | {"schema_version": 1})
    assert load_bundle(old.to_text()).to_text() == old.to_text()
    assert '"canary"' not in old.to_text()


def test_shares_are_sticky_and_only_grow(world, champion, challenger):
    chosen = {}
    for weight in (0.0, 0.1, 0.25, 1.0):
        router = Router.load(at(champion, challenger, weight), world.embedder)
        drawn = decisions(router, world)
        chosen[weight] = {i for i, d in enumerate(drawn) if d.canary}
        assert len(chosen[weight]) / len(drawn) == pytest.approx(weight, abs=0.08)
        for decision in drawn:
            assert decision.adapter == student(NEW if decision.canary else OLD)["adapter"]
    assert chosen[0.1] <= chosen[0.25] <= chosen[1.0]


def test_a_conversation_meets_one_student(world, champion, challenger):
    router = Router.load(at(champion, challenger, 0.25), world.embedder)
    drawn = {len({d.canary for d in decisions(router, world, 10, conversation_id=f"c{i}")})
             for i in range(20)}  # fmt: skip
    assert drawn == {1}
    both = {decisions(router, world, 1, conversation_id=f"c{i}")[0].canary for i in range(40)}
    assert both == {True, False}


def test_the_shadow_coin_is_the_same_for_both(world, champion, challenger):
    plain = decisions(Router.load(champion, world.embedder), world)
    mixed = decisions(Router.load(at(champion, challenger, 0.25), world.embedder), world)
    assert all(m.shadow for p, m in zip(plain, mixed, strict=True) if p.shadow)
    assert sum(d.shadow for d in mixed) > sum(d.shadow for d in plain)
    assert Router.load(at(champion, challenger, 0.0), world.embedder).adapters == (
        student(OLD)["adapter"],
        student(NEW)["adapter"],
    )


def test_without_a_certificate_of_its_own_it_is_only_a_shadow(world, champion):
    poor = world.answers.assign(agrees=np.arange(len(world.answers)) % 5 > 0)
    weak = world.fit(poor, student=student(NEW), previous=champion)
    assert champion.certified
    assert not weak.certified
    router = Router.load(at(champion, weak, 1.0), world.embedder)
    assert {(d.arm, d.canary, d.adapter) for d in decisions(router, world)} == {
        ("student", False, student(OLD)["adapter"])
    }


def test_each_is_judged_by_its_own_thresholds(world, champion, challenger):
    strict = challenger.model_copy(
        update={"groups": [g.model_copy(update={"threshold": 1e5}) for g in challenger.groups]}
    )
    router = Router.load(at(champion, strict, 1.0), world.embedder)
    canary = decisions(router, world, 1)[0]
    old = Router.load(champion, world.embedder)
    settled = [r.settle(d, "refund", [-0.001]) for r, d in (
        (router, canary), (old, decisions(old, world, 1)[0]))]  # fmt: skip
    assert [s.action for s in settled] == ["escalate", "serve"]
    assert settled[0].threshold == 1e5


def test_the_canarys_embedder_is_read_from_the_folder_if_it_is_another(
    tmp_path, world, champion, challenger
):
    from loop_pipeline.groups.embedding.embedder import Embedder

    other = Embedder.fit(world.answers["text"].tolist()[:400], seed=1)
    foreign = challenger.model_copy(
        update={"embedder_version": other.version, "embedder_path": "other.npz"}
    )
    bundle = at(champion, foreign, 0.25)
    (tmp_path / "policy.json").write_text(bundle.to_text(), "utf-8")
    world.embedder.save(tmp_path / champion.embedder_path)
    other.save(tmp_path / "other.npz")
    assert Router.load(tmp_path / "policy.json").canary is not None


def test_a_decision_with_a_canary_embeds_the_text_once(world, champion, challenger, monkeypatch):
    """Embedding is most of a decision's time; `benchmarks/decision.py` measures it."""
    router = Router.load(at(champion, challenger, 0.25), world.embedder)
    embedded = []
    project = world.embedder.project
    monkeypatch.setattr(
        type(world.embedder), "project", lambda _, texts: embedded.append(texts) or project(texts)
    )
    for row in world.answers.head(100).itertuples():
        router.decide(ask(row.text), row.prompt_id, row.template_hash)
    assert [len(texts) for texts in embedded] == [1] * 100


def test_one_coin_shadows_requests_of_both_students(world, champion, challenger):
    bundle = with_canary(champion, challenger, "25%", 0.25)
    router = Router.load(bundle, world.embedder)
    made = decisions(router, world, 600)
    assert {d.canary for d in made} == {True, False}
    assert {d.propensity for d in made} == {0.2}
    assert np.mean([d.shadow for d in made if d.canary]) > 0.1
