from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.evaluation import held_out as evaluation
from loop_pipeline.evaluation.held_out import evaluate, mark_answers
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.store.tables import StudentAnswerRow

LABEL = {"kind": "label", "labels": ["cash", "card"]}
TAGS = {"kind": "tags", "labels": ["billing", "login", "urgent"]}
JSON = {"kind": "json", "schema": {"type": "object", "required": ["id"]}}
TEXT = {"kind": "text", "max_words": 30}


def traces(n: int = 6, contract: dict[str, Any] | None = None) -> pd.DataFrame:
    rows = [
        {
            "prompt_id": f"p{i}",
            "day": "2026-09-01",
            "split": "gold",
            "task": "route" if i % 2 else "tag",
            "template_hash": "t",
            "producer": "frontier",
            "messages": [{"role": "user", "content": f"request {i}"}],
            "context": None,
            "contract": contract or (LABEL if i % 2 else TAGS),
            "output": "cash" if i % 2 else "billing, urgent",
            "finish_reason": "stop",
        }
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def answer(text: str, logprob: float = -0.1) -> Answer:
    return Answer(text, [logprob, 0.0], 10, 2, "stop", 5.0)


def student(monkeypatch: pytest.MonkeyPatch, replies: dict[str, Answer]) -> StudentServer:
    def ask(_self: Any, _model: str, messages: Any) -> Answer:
        return replies[messages[-1]["content"]]

    monkeypatch.setattr(StudentServer, "answer", ask)
    return StudentServer("http://stub")


def answered(asked: pd.DataFrame, *outputs: str, **columns: Any) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "prompt_id": asked["prompt_id"],
            "output": outputs,
            "frontier_output": asked["output"],
            "agrees": [a == b for a, b in zip(outputs, asked["output"], strict=True)],
            "logprob_sum": -0.1,
            "finish_reason": "stop",
        }
    )
    return rows.assign(**columns)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    said = ["the customer asks for a refund", "a parcel is lost", "login", "the card is blocked"]
    return Embedder.fit([*said, "where is my parcel", "a refund of the price", "new code"], seed=0)


def test_evaluation_gives_exactly_the_stored_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = traces()
    replies = {f"request {i}": answer("CASH" if i % 2 else "urgent, billing") for i in range(6)}
    replies["request 5"] = answer("card", -2.0)
    replies["request 4"] = Answer("", [], 0, 0, "too_long", 1.0)
    server = student(monkeypatch, replies)
    rows = evaluate(server, "student-1", asked, checkpoint_id="c1")
    assert list(rows.columns) == [c.name for c in StudentAnswerRow.__table__.columns]
    assert rows["prompt_id"].tolist() == asked["prompt_id"].tolist()
    assert rows["agrees"].tolist() == [True, True, True, True, False, False]
    assert rows["logprob_sum"].tolist()[:4] == pytest.approx([-0.1] * 4)
    assert np.isfinite(rows["logprob_sum"]).all()


def test_answers_are_held_against_contract_request_and_frontier(embedder: Embedder) -> None:
    tasks: Any = ["tag", None, "tag", "route"]
    asked = traces(4).assign(task=tasks, group_id="g")
    asked["reference"] = ["billing", "card", "billing, urgent", "cash"]
    rows = answered(asked, "billing", "bitcoin", "urgent, billing", "cash")
    found = mark_answers(rows.set_index(pd.Index([7, 3, 5, 1])), asked, embedder, Tiers())
    assert found.index.tolist() == [7, 3, 5, 1]
    assert found["task"].tolist() == ["tag", "(no task)", "tag", "route"]
    assert found["valid"].tolist() == [True, False, True, True]
    assert found["flagged"].tolist() == [False, True, False, False]
    assert "not in the set" in found["reasons"].iloc[1][0]
    assert found["same_as_reference"].tolist() == [True, False, True, True]
    assert found["tags"].tolist() == [(1, 2, 1), None, (2, 2, 2), None]
    assert found["group_id"].tolist() == ["g"] * 4
    assert found["confidence"].iloc[0] == pytest.approx(np.exp(-0.1))
    assert found["similarity"].isna().all()


def test_texts_are_also_compared_by_wording_and_likeness(embedder: Embedder) -> None:
    asked = traces(3, TEXT).assign(output="the customer asks for a refund")
    said: Any = [[{"role": "user", "content": "Hello, the customer asks for a refund"}]] * 3
    asked = asked.assign(messages=said)
    found = mark_answers(
        answered(asked, "the customer asks for a refund", "a parcel is lost", "refund of 99 EUR"),
        asked,
        embedder,
        Tiers(),
    )
    assert found["rouge_l"].iloc[0] == 1.0
    assert found["similarity"].iloc[0] == pytest.approx(1.0, abs=1e-5)
    assert found["similarity"].iloc[1] < 0.8
    assert found["flagged"].iloc[2], "99 is not in the request"
    assert not found["flagged"].iloc[0]


def test_what_cannot_be_told_is_counted_apart(embedder: Embedder) -> None:
    """No contract and no source: nothing is wrong, and nothing is known to be right."""
    asked = traces(2, TEXT).assign(contract=None, output="some words")
    odd = traces(1, {"kind": "json", "schema": {"anyOf": []}}).assign(output="{}", prompt_id="odd")
    asked = pd.concat([asked, odd], ignore_index=True)
    found = mark_answers(answered(asked, "some words", "others", "{}"), asked, embedder, Tiers())
    assert not found["told"].any()
    assert not found["flagged"].any()
    assert found["valid"].all()


def test_json_is_compared_field_by_field(embedder: Embedder) -> None:
    asked = traces(2, JSON).assign(output='{"id": 1, "x": 2}')
    found = mark_answers(
        answered(asked, '{"id": 1.0, "x": 3}', '{"x": 2}'), asked, embedder, Tiers()
    )
    assert found["fields"].tolist() == [{"id": True, "x": False}, {"id": False, "x": True}]
    assert found["valid"].tolist() == [True, False]


def test_nothing_to_evaluate_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = student(monkeypatch, {})
    with pytest.raises(ValueError, match="import more traces"):
        evaluate(server, "base", traces(0), checkpoint_id="c")
    made = traces(2).assign(producer=["frontier", "student"])
    with pytest.raises(ValueError, match="'p1' is not the frontier's"):
        evaluate(server, "base", made, checkpoint_id="c")

    def broken(*_args: Any, **_kwargs: Any) -> list[Answer]:
        raise ServerError("http://stub: gone")

    monkeypatch.setattr(evaluation, "answer_all", broken)
    with pytest.raises(ServerError, match="evaluation of c as 'base' stopped: http://stub: gone"):
        evaluate(server, "base", traces(2), checkpoint_id="c")
