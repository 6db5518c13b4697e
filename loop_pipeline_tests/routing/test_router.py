"""The router: sure answers are served, every doubt costs money instead of quality."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.routing.decision import Asked
from loop_pipeline.routing.gold_check import served
from loop_pipeline.routing.policy import BadBundle, PolicyBundle
from loop_pipeline.routing.router import Router
from loop_pipeline.stats.sampling import coin
from loop_pipeline_tests.routing.conftest import World

JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters()) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SLOW = {"kind": "json", "schema": {"type": "string", "pattern": "(a|aa)+$"}}
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": JUNK})
)


@pytest.fixture(scope="session")
def router(world: World, bundle: PolicyBundle) -> Router:
    return Router.load(bundle, world.embedder)


def ask(text):
    return [{"role": "user", "content": text}]


def test_it_agrees_with_the_offline_policy_row_by_row(world, bundle, router):
    rows = world.answers.head(300)
    expected = served(bundle, rows)
    for (_, row), serve in zip(rows.iterrows(), expected, strict=True):
        decision = router.decide(ask(row["text"]), row["prompt_id"], row["template_hash"])
        group = None if row["group_id"] == "unassigned" else row["group_id"]
        assert (decision.group_id if decision.arm == "student" else None) == group
        one_token = [row["logprob_sum"]]
        score = bundle.score.value(row)
        settled = router.settle(decision, row["output"], one_token, finish_reason="stop")
        assert settled.action in ("serve", "escalate")
        floor = bundle.group(group).threshold if group else np.inf
        assert (score >= floor) == serve


def test_it_serves_above_the_threshold_and_escalates_below(router, world):
    row = world.answers[world.answers["group_id"] != "unassigned"].iloc[0]
    decision = router.decide(ask(row["text"]), "x", row["template_hash"])
    sure = router.settle(decision, "refund", [-0.001, -0.001, -0.001])
    unsure = router.settle(decision, "refund", [-3.0, -3.0, -3.0])
    assert (sure.action, unsure.action) == ("serve", "escalate")
    assert sure.score > sure.threshold > unsure.score
    assert unsure.reason == "not sure enough"


@pytest.mark.parametrize(
    ("messages", "template", "reason"),
    [
        (ask("flight hotel card"), "unknown", "unknown prompt template"),
        (ask("flight hotel card"), None, "unknown prompt template"),
        (ask(""), "aa", "no text"),
        (ask([{"type": "image_url", "image_url": "x"}]), "aa", "no text"),
        (ask("card " * 200_000), "aa", "1000000 characters"),
        (ask("Ж щ ы"), "aa", "unlike anything seen"),
        (ask("!!!"), "aa", "unlike anything seen: 0% of it is familiar"),
        (ask("Где моя посылка, она должна была прийти вчера"), "aa", "unlike anything seen"),
        (ask("我的包裹在哪里"), "aa", "unlike anything seen"),
        ([], "aa", "no text"),
        (None, "aa", "the router failed"),
        (3, None, "the router failed"),
    ],
)
def test_every_doubt_before_the_call_goes_to_the_frontier(router, messages, template, reason):
    decision = router.decide(messages, "p", template)
    assert (decision.arm, decision.propensity) == ("frontier", 0.02)
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("answer", "logprobs", "more", "reason"),
    [
        ("refund", None, {}, "no log-probabilities"),
        ("refund", [], {}, "no log-probabilities"),
        ("refund", [-0.1, float("nan")], {}, "are not all numbers"),
        ("refund", [float("-inf")], {}, "are not all numbers"),
        ("refund", ["a"], {}, "the router failed"),
        ("refund", [5.0], {}, "a log-probability is 5, above 0"),
        ("refund", [-0.1, -0.1, 0.5], {}, "a log-probability is 0.5, above 0"),
        ("x", [-0.0], {"contract": {"labels": ["a"]}}, "its contract cannot be checked"),
        ('"' + "a" * 60 + '!"', [-0.0], {"contract": SLOW}, "does not match (a|aa)+$ in time"),
        ("  ", [-0.1], {}, "empty"),
        (None, [-0.1], {}, "the router failed"),
        ("refund", [-0.0], {"finish_reason": "length"}, "did not finish (length)"),
        ("x", [-0.0], {"contract": {"kind": "label", "labels": ["a"]}}, "breaks its contract"),
    ],
)
def test_every_doubt_after_the_call_escalates(router, world, answer, logprobs, more, reason):
    row = world.answers[world.answers["group_id"] != "unassigned"].iloc[0]
    decision = router.decide(ask(row["text"]), "x", row["template_hash"])
    settled = router.settle(decision, answer, logprobs, **more)
    assert settled.action == "escalate"
    assert reason in settled.reason


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages=MESSAGES | JUNK, prompt_id=JUNK, template=JUNK, answer=JUNK, logprobs=JUNK)
def test_it_never_raises(router, messages, prompt_id, template, answer, logprobs):
    decision = router.decide(messages, prompt_id, template)
    assert decision.arm in ("student", "frontier")
    settled = router.settle(decision, answer, logprobs, contract=messages)
    assert settled.action == "escalate" or decision.arm == "student"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_requests_decided_together_are_decided_as_one_by_one(router, world, data):
    known = world.answers.head(400)
    texts = st.sampled_from(list(zip(known["text"], known["template_hash"], strict=True)))
    good = st.builds(
        lambda pair, prompt_id: Asked(ask(pair[0]), prompt_id, pair[1]),
        texts,
        st.text("ab1", min_size=1, max_size=9),
    )
    odd = st.builds(Asked, MESSAGES | JUNK, JUNK, JUNK)
    requests = data.draw(st.lists(good | odd | good, max_size=40))
    alone = [router.decide(r.messages, r.prompt_id, r.template_hash) for r in requests]
    assert router.decide_many(requests) == alone


def test_an_embedder_that_fails_on_many_is_asked_one_by_one(bundle, world):
    class Odd:
        version, floor = world.embedder.version, world.embedder.floor
        dimension = world.embedder.dimension

        def project(self, texts):
            if len(texts) > 1 or "bank" in texts[0]:
                raise RuntimeError("no batches")
            return world.embedder.project(texts)

        transform = world.embedder.transform

    router = Router(bundle, Odd())  # pyright: ignore[reportArgumentType]
    requests = [Asked(ask(text), text, "aa") for text in ("flight hotel", "bank", "card visa")]
    decisions = router.decide_many(requests)
    assert decisions == [router.decide(*r[:3]) for r in requests]
    assert ["failed" in d.reason for d in decisions] == [False, True, False]


def test_the_coin_is_fair_fixed_and_free_of_the_arm():
    ids = [f"p{i}" for i in range(50_000)]
    heads = [coin("shadow", i) < 0.02 for i in ids]
    assert 0.018 < np.mean(heads) < 0.022
    assert heads == [coin("shadow", i) < 0.02 for i in ids]


def test_threads_share_it(router, world):
    rows = world.answers.head(200)
    pairs = list(zip(rows["text"], rows["template_hash"], strict=True))

    def decide(pair):
        return router.decide(ask(pair[0]), pair[0], pair[1])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decide, pairs * 3)) == [decide(p) for p in pairs] * 3


def test_it_loads_from_a_folder_and_refuses_another_embedder(tmp_path, world, bundle):
    (tmp_path / "policy.json").write_text(bundle.to_text(), "utf-8")
    world.embedder.save(tmp_path / "embedder.npz")
    assert Router.load(tmp_path / "policy.json").bundle == bundle
    with pytest.raises(BadBundle, match="made with embedder"):
        Router.load(bundle, Embedder.fit(["another one", "and two"], seed=0))


def test_the_router_imports_alone_and_stays_small(world, bundle, tmp_path):
    world.embedder.save(tmp_path / bundle.embedder_path)
    (tmp_path / "policy.json").write_text(bundle.to_text(), "utf-8")
    code = (
        "import sys; from pathlib import Path; from loop_pipeline.routing.router import Router;"
        f"Router.load(Path({str(tmp_path / 'policy.json')!r}));"
        "heavy = {'pandas', 'sklearn', 'scipy.stats', 'sqlalchemy'};"
        "print(sorted(heavy & set(sys.modules)));"
        "print(int(Path('/proc/self/statm').read_text().split()[1]) * 4096 / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, megabytes = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(megabytes) <= 110


def test_a_policy_for_one_app_sends_all_others_to_the_frontier(world, bundle):
    own = Router.load(world.fit(app="desk"), world.embedder)
    everyone = Router.load(bundle, world.embedder)
    rows = world.answers[world.answers["group_id"] != "unassigned"].head(20)
    for text, template in zip(rows["text"], rows["template_hash"], strict=True):
        asked = [{"role": "user", "content": text}], text, template
        plain = everyone.decide(*asked)
        assert own.decide(*asked, app="desk").arm == plain.arm == "student"
        for app in ("", "other", "Desk"):
            assert everyone.decide(*asked, app=app) == plain
            strange = own.decide(*asked, app=app)
            assert (strange.arm, strange.adapter, strange.shadow) == ("frontier", None, False)
            assert strange.propensity == 0, "it is no part of the traffic it is judged on"
            assert strange.reason == "the policy is for app desk"
