"""The simulation against the rates it promises, and against the importer it is written for."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.demo import phrases
from loop_pipeline.demo import simulated_traffic as traffic
from loop_pipeline.demo.simulated_desk import AMBIGUOUS, TASKS
from loop_pipeline.demo.simulated_traffic import answer_reviews, simulate
from loop_pipeline.traces.importers.jsonl import read_jsonl
from loop_pipeline.traces.messages import dedup_key
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.trace_lines import TraceLine

TRACES = 9000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("traffic")
    simulate(made / "traffic.jsonl", traces=TRACES)
    return made


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "traffic.jsonl").open()]


@pytest.fixture(scope="module")
def truth(folder: Path) -> dict[str, dict[str, Any]]:
    facts = [json.loads(line) for line in (folder / "truth.jsonl").open()]
    return {fact["prompt_id"]: fact for fact in facts}


def close(found: int, n: int, rate: float) -> bool:
    """Within four standard deviations of a binomial count."""
    return abs(found - n * rate) <= 4 * math.sqrt(n * rate * (1 - rate)) + 1


def request(line: dict[str, Any]) -> str:
    return line["messages"][1]["content"]


def test_importer_takes_every_line(folder: Path, lines: list[dict[str, Any]]) -> None:
    records = [record for _, record in read_jsonl(folder / "traffic.jsonl")]
    kinds = Counter(type(record) for record in records)
    assert kinds == {TraceLine: TRACES, Feedback: sum(len(line["feedback"]) for line in lines)}
    assert all(r.values["simulated"] for r in records if isinstance(r, TraceLine))
    assert len({line["prompt_id"] for line in lines}) == TRACES


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / name).mkdir()
        simulate(tmp_path / name / "traffic.jsonl", traces=300, seed=seed)
    for file in ("traffic.jsonl", "truth.jsonl"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b != c


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    counts = simulate(tmp_path / "traffic.jsonl", traces=500)
    facts = [json.loads(line) for line in (tmp_path / "truth.jsonl").open()]
    assert counts["traces"] == len(facts) == 500
    assert counts["wrong"] == sum(not fact["right"] for fact in facts)
    assert counts["hallucinated"] == sum(fact["hallucinated"] for fact in facts)


def test_truth_says_which_answers_are_right(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    assert len(lines) == len(truth)
    for line in lines:
        fact = truth[line["prompt_id"]]
        assert fact["right"] == (line["output"] == fact["truth"])
        assert not (fact["right"] and fact["hallucinated"])


def test_shares_and_error_rates(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    for task, (share, _, _) in TASKS.items():
        mine = [line for line in lines if line["task"] == task]
        wrong = [line for line in mine if not truth[line["prompt_id"]]["right"]]
        assert close(len(mine), TRACES, share)
        for hard, rate in ((True, traffic.WRONG_IF_HARD), (False, traffic.WRONG)):
            of = {line["prompt_id"] for line in mine if truth[line["prompt_id"]]["hard"] == hard}
            found = sum(line["prompt_id"] in of for line in wrong)
            expected = traffic.OUTSIDE + rate if task != "summarise" else traffic.HALLUCINATED
            assert close(found, len(of), expected)
        planted = sum(truth[line["prompt_id"]]["hallucinated"] for line in mine)
        assert planted == (len(wrong) if task == "summarise" else 0)


def test_labels_and_tags_keep_their_contract_but_for_the_planted_ones(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    outside, asked = 0, 0
    for line in lines:
        if line["contract"]["kind"] == "text":
            assert len(line["output"].split()) <= line["contract"]["max_words"]
            continue
        asked += 1
        known = {*line["contract"]["labels"], *(["none"] if line["task"] == "tag" else [])}
        assert set(truth[line["prompt_id"]]["truth"].split(", ")) <= known
        tags = line["output"].split(", ")
        assert tags == sorted(set(tags))
        outside += not set(tags) <= known
    assert close(outside, asked, traffic.OUTSIDE)


def test_planted_hallucinations_say_what_the_request_does_not(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    ways = Counter()
    for line in (line for line in lines if truth[line["prompt_id"]]["hallucinated"]):
        text, right = request(line).casefold(), truth[line["prompt_id"]]["truth"]
        promise = line["output"].removeprefix(right)
        if promise in phrases.PROMISES:
            ways["promise"] += 1
            assert promise.strip().casefold() not in text
            continue
        facts = set(re.findall(r"\d{5}|\d+ (?:June|July|August)", line["output"]))
        facts |= {product for product in phrases.PRODUCTS if f"the {product}" in line["output"]}
        invented = {fact for fact in facts if fact.casefold() not in text}
        assert len(invented) == 1
        ways["fact"] += 1
    assert min(ways["promise"], ways["fact"]) >= 5


def test_true_summaries_copy_from_the_request(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    copied = 0
    for line in (line for line in lines if line["task"] == "summarise"):
        right = truth[line["prompt_id"]]["truth"]
        facts = re.findall(r"\d{5}", right)
        facts += [product for product in phrases.PRODUCTS if f"the {product}" in right]
        facts += [city for city in phrases.CITIES if f"to {city}." in right]
        assert all(fact in request(line) for fact in facts)
        copied += bool(facts)
    assert copied > 1000


def test_language_is_varied(lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]) -> None:
    words = [len(request(line).split()) for line in lines]
    assert min(words) >= 8
    assert max(words) <= 50
    assert not any(re.search(r"[\[\]{}|]", request(line)) for line in lines)
    asked = Counter(truth[ln["prompt_id"]]["truth"] for ln in lines if ln["task"] == "classify")
    assert set(asked) == set(phrases.LABELS)
    assert min(asked.values()) > 100
    assert 0.02 < AMBIGUOUS < 0.06


def test_repeats_conversations_and_a_heavy_tail_of_users(lines: list[dict[str, Any]]) -> None:
    keys = {dedup_key(line["messages"]) for line in lines}
    assert 0.03 < 1 - len(keys) / TRACES < 0.06
    talks = Counter(line["conversation_id"] for line in lines)
    assert set(talks.values()) == {1, 2, 3, 4}
    users = Counter(line["user"] for line in lines)
    assert 350 <= len(users) <= 400
    assert sum(n for _, n in users.most_common(40)) > 0.3 * TRACES


def test_time_follows_a_week_in_a_shop(lines: list[dict[str, Any]]) -> None:
    moments = [dt.datetime.fromisoformat(line["ts"]) for line in lines]
    assert moments == sorted(moments)
    days = Counter(moment.date() for moment in moments)
    assert len(days) == 21
    assert min(days) == dt.date(2026, 9, 1)
    sunday, tuesday = days[dt.date(2026, 9, 6)], days[dt.date(2026, 9, 8)]
    assert sunday < 0.6 * tuesday
    assert sum(m.hour < 6 for m in moments) < 0.1 * sum(9 <= m.hour < 15 for m in moments)


def test_feedback_is_biased_and_sometimes_late(
    lines: list[dict[str, Any]], truth: dict[str, dict[str, Any]]
) -> None:
    first: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    waits = []
    for line in lines:
        fact = truth[line["prompt_id"]]
        kinds = [f["kind"] for f in line["feedback"]]
        first[fact["right"]][kinds[0] if kinds else "none"] += 1
        for reaction in line["feedback"]:
            waits.append(
                dt.datetime.fromisoformat(reaction["ts"]) - dt.datetime.fromisoformat(line["ts"])
            )
            if reaction["kind"] == "modified":
                assert reaction["edited_output"].startswith(fact["truth"])
    for right, counts in first.items():
        n = counts.total()
        assert close(n - counts["none"], n, traffic.SEEN[right])
        for kind, chance in traffic.REACTIONS[right].items():
            assert close(counts[kind], n - counts["none"], chance)
    assert dt.timedelta(0) < min(waits)
    assert max(waits) <= dt.timedelta(days=3)
    assert any(wait > dt.timedelta(days=2) for wait in waits)


def test_costs_follow_from_the_price(lines: list[dict[str, Any]]) -> None:
    for line in lines[:200]:
        usd = (line["tokens_in"] * 5 + line["tokens_out"] * 25) / 1e6
        assert line["cost_usd"] == pytest.approx(usd, abs=1e-9)
        assert line["latency_ms"] > 0


def test_reviewers_are_right_as_often_as_said(
    folder: Path, truth: dict[str, dict[str, Any]]
) -> None:
    ids = list(truth)[:4000]
    reviews = answer_reviews(folder / "truth.jsonl", ids, seed=7)
    assert list(dict.fromkeys(review["prompt_id"] for review in reviews)) == ids
    assert close(len(reviews) - len(ids), len(ids), traffic.REVIEWED_BY_BOTH)
    hits = sum((r["value"] == 1) == truth[r["prompt_id"]]["right"] for r in reviews)
    assert close(hits, len(reviews), traffic.REVIEWER_RELIABILITY)
    assert {review["actor"] for review in reviews} == set(traffic.REVIEWERS)
    for review in reviews:
        Feedback.model_validate(review)
        if "edited_output" in review:
            assert review["edited_output"] == truth[review["prompt_id"]]["truth"]
            assert review["value"] == 0
    # Asked one by one and in another order the verdicts stay: imports stay idempotent.
    again = answer_reviews(folder / "truth.jsonl", ids[5:2:-1], seed=7)
    alone = [[r for r in reviews if r["prompt_id"] == prompt_id] for prompt_id in ids[5:2:-1]]
    assert again == [review for reviews in alone for review in reviews]


def test_review_of_a_foreign_trace_names_it(folder: Path) -> None:
    with pytest.raises(ValueError, match="stranger is not in"):
        answer_reviews(folder / "truth.jsonl", ["stranger"], seed=7)


def test_killed_simulation_leaves_no_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(tmp_path / "traffic.jsonl", traces=5)
    monkeypatch.setattr(traffic, "_answer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate(tmp_path / "traffic.jsonl", traces=5)
    assert not (tmp_path / "truth.jsonl").exists()


def test_nothing_to_simulate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        simulate(tmp_path / "traffic.jsonl", traces=0)
