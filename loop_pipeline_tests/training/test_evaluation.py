import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_pipeline.serving.vllm import Answer, ServerError, StudentServer
from loop_pipeline.store.tables import StudentAnswerRow
from loop_pipeline.training import evaluation
from loop_pipeline.training.evaluation import (
    agrees,
    canonical,
    contract_validity,
    evaluate,
    exact_interval,
    expected_calibration_error,
    rouge_l,
    summarise,
)

LABEL = {"kind": "label", "labels": ["cash", "card"]}
TAGS = {"kind": "tags", "labels": ["billing", "login", "urgent"]}
JSON = {"kind": "json", "schema": {"type": "object"}}
TEXT = {"kind": "text", "max_words": 30}


@pytest.mark.parametrize(
    ("a", "b", "contract", "same"),
    [
        ("Cash", " cash\n", LABEL, True),
        ("cash", "card", LABEL, False),
        ("urgent, billing", "billing,Urgent", TAGS, True),
        ("billing", "billing, urgent", TAGS, False),
        ("none", "", TAGS, True),
        ('{"a": 1, "b": [1.0]}', '{"b":[1],"a":1.0}', JSON, True),
        ('{"a": 1}', '{"a": true}', JSON, False),
        ('{"a": 1}', '{"a": "1"}', JSON, False),
        ("not json", "not json", JSON, False),
        ("[" * 100_000, "[" * 100_000, JSON, False),
        ("The customer asks for a refund.", "the customer asks for a refund", TEXT, True),
        ("The customer asks for a refund of order 1", "A parcel is lost", TEXT, False),
        ("", "", None, True),
        ("", "something", None, False),
    ],
)
def test_agreement(a: str, b: str, contract: dict[str, Any] | None, same: bool) -> None:
    assert agrees(a, b, contract) is same
    assert agrees(b, a, contract) is same


def slow_rouge(a: list[str], b: list[str]) -> float:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = (
                table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
            )
    return 2 * table[-1, -1] / (len(a) + len(b))


words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=90)


@settings(max_examples=60, deadline=None)
@given(words, words)
def test_rouge_l_is_that_of_the_textbook(a: list[str], b: list[str]) -> None:
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(slow_rouge(a, b))


@settings(max_examples=60, deadline=None)
@given(st.text(), st.sampled_from([LABEL, TAGS, JSON, TEXT, None]))
def test_any_text_agrees_with_its_canonical_form(
    text: str, contract: dict[str, Any] | None
) -> None:
    form = canonical(text, contract)
    assert canonical(form, contract) == form
    if contract is not JSON:
        assert agrees(text, form, contract)


def traces(n: int = 6, contract: dict[str, Any] | None = None) -> pd.DataFrame:
    rows = [
        {
            "prompt_id": f"p{i}",
            "split": "gold",
            "task": "route" if i % 2 else "tag",
            "producer": "frontier",
            "messages": [{"role": "user", "content": f"request {i}"}],
            "contract": contract or (LABEL if i % 2 else TAGS),
            "output": "cash" if i % 2 else "billing, urgent",
        }
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def answer(text: str, logprob: float = -0.1) -> Answer:
    return Answer(text, [logprob, 0.0], 10, 2, "stop", 5.0)


def student(monkeypatch: pytest.MonkeyPatch, replies: dict[str, Answer]) -> StudentServer:
    def ask(_self: Any, _model: str, messages: Any, _max_tokens: int) -> Answer:
        return replies[messages[-1]["content"]]

    monkeypatch.setattr(StudentServer, "answer", ask)
    return StudentServer("http://stub")


def test_evaluation_gives_exactly_the_stored_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = traces()
    replies = {f"request {i}": answer("CASH" if i % 2 else "urgent, billing") for i in range(6)}
    replies["request 5"] = answer("card", -2.0)
    replies["request 4"] = Answer("", [], 0, 0, "too_long", 1.0)
    server = student(monkeypatch, replies)
    rows = evaluate(server, "student-1", asked, checkpoint_id="c1", max_tokens=8)
    assert list(rows.columns) == [c.name for c in StudentAnswerRow.__table__.columns]
    assert rows["prompt_id"].tolist() == asked["prompt_id"].tolist()
    assert rows["agrees"].tolist() == [True, True, True, True, False, False]
    assert rows["logprob_sum"].tolist()[:4] == pytest.approx([-0.1] * 4)
    assert np.isfinite(rows["logprob_sum"]).all()


def test_the_summary_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = traces()
    asked["reference"] = ["billing, urgent", "card"] * 3
    replies = {f"request {i}": answer("cash" if i % 2 else "billing") for i in range(6)}
    replies["request 0"] = answer("billing, nonsense", -3.0)
    server = student(monkeypatch, replies)
    rows = evaluate(server, "student-1", asked, checkpoint_id="c1", max_tokens=8)
    figures = json.loads(json.dumps(summarise(rows, asked)))
    assert (figures["n"], figures["agreement"]) == (6, 0.5)
    assert figures["agreement_low"] == pytest.approx(0.1181, abs=1e-4)
    assert figures["measure"] == "exact agreement"
    assert figures["validity"] == pytest.approx(5 / 6)
    assert figures["quality"] == 0.0
    assert figures["tasks"]["route"]["agreement"] == 1.0
    assert figures["tasks"]["route"]["auroc"] is None
    # 3 of (2 + 1 + 1 given, 6 wanted) tags are common: F1 = 2 * 3 / 10
    assert figures["tasks"]["tag"]["tags_micro_f1"] == pytest.approx(0.6)
    assert figures["tokens_out"] == 12
    assert figures["latency_ms"]["p50"] == 5.0


def test_a_wrong_number_never_agrees() -> None:
    said = "Customer asks for a refund of order 48213."
    assert agrees(said, "Customer asks for a refund for order 48213.", TEXT)
    assert not agrees(said, "Customer asks for a refund of order 11111.", TEXT)
    assert not agrees(said, "Customer asks for a refund of the order.", TEXT)


def test_texts_are_called_lexical_agreement() -> None:
    asked = traces(2, TEXT).assign(output="the customer asks for a refund")
    rows = pd.DataFrame(
        {
            "prompt_id": ["p0", "p1"],
            "output": ["the customer asks for a refund", "a parcel"],
            "frontier_output": asked["output"],
            "agrees": [True, False],
            "logprob_sum": [-0.1, -2.0],
            "tokens_in": 1,
            "tokens_out": 1,
            "finish_reason": "stop",
            "latency_ms": 1.0,
        }
    )
    figures = summarise(rows, asked)
    assert figures["measure"] == "lexical agreement (ROUGE-L >= 0.8, same numbers)"
    assert figures["auroc"] == 1.0
    assert 0.5 < figures["rouge_l"] < 0.7


def test_a_label_outside_the_contract_is_invalid() -> None:
    asked = traces(2, LABEL)
    rows = pd.DataFrame({"prompt_id": ["p1", "p0"], "output": ["cash", "bitcoin"]}, index=[7, 3])
    valid = contract_validity(rows, asked)
    assert valid.to_dict() == {7: True, 3: False}


def test_nothing_to_evaluate_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = student(monkeypatch, {})
    with pytest.raises(ValueError, match="import more traces"):
        evaluate(server, "base", traces(0), checkpoint_id="c", max_tokens=4)
    made = traces(2).assign(producer=["frontier", "student"])
    with pytest.raises(ValueError, match="'p1' is not the frontier's"):
        evaluate(server, "base", made, checkpoint_id="c", max_tokens=4)

    def broken(*_args: Any, **_kwargs: Any) -> list[Answer]:
        raise ServerError("http://stub: gone")

    monkeypatch.setattr(evaluation, "answer_all", broken)
    with pytest.raises(ServerError, match="evaluation of c as 'base' stopped: http://stub: gone"):
        evaluate(server, "base", traces(2), checkpoint_id="c", max_tokens=4)


def test_intervals_and_calibration_against_known_values() -> None:
    assert exact_interval(0, 59) == pytest.approx((0.0, 0.0606), abs=1e-4)
    assert exact_interval(90, 100) == pytest.approx((0.8238, 0.9510), abs=1e-4)
    assert exact_interval(0, 0) == (0.0, 1.0)
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    honest = rng.random(20_000) < confidence
    assert expected_calibration_error(confidence, honest) < 0.02
    assert expected_calibration_error(np.full(100, 0.9), np.zeros(100, bool)) == pytest.approx(0.9)
    assert expected_calibration_error(np.ones(10), np.ones(10, bool)) == 0.0
