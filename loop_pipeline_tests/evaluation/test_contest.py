from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.evaluation.contest import Contest, hold_contest, pick, prepare
from loop_pipeline.evaluation.gate import Decision
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.labels.hallucination.tiers import Tiers

N = 900
LABEL = {"kind": "label", "labels": ["yes", "no"]}


def held_out() -> pd.DataFrame:
    """Gold and calibration requests, two a conversation; the label is no secret."""
    rows = pd.DataFrame(
        {
            "prompt_id": [f"p{i:04d}" for i in range(N)],
            "split": ["gold" if i % 3 else "calibration" for i in range(N)],
            "ts": pd.Timestamp("2026-09-01", tz="UTC") + pd.to_timedelta(np.arange(N), unit="min"),
            "day": "2026-09-01",
            "dedup_key": [f"k{i}" for i in range(N)],
            "conversation_id": [f"c{i // 2}" for i in range(N)],
            "template_hash": "t",
            "task": ["a" if i % 2 else "b" for i in range(N)],
            "producer": "frontier",
            "context": None,
            "output": "yes",
            "finish_reason": "stop",
        }
    )
    asked: Any = [[{"role": "user", "content": f"is it {i}?"}] for i in range(N)]
    contract: Any = [LABEL] * N
    return rows.assign(messages=asked, contract=contract)


def prepared(**columns: Any) -> pd.DataFrame:
    nobody = pd.DataFrame({"prompt_id": [], "group_id": []})
    feedback = pd.DataFrame({"prompt_id": [], "kind": [], "edited_output": []})
    return prepare(held_out().assign(**columns), nobody, feedback)


def said(traces: pd.DataFrame, wrong: np.ndarray, key: str) -> pd.DataFrame:
    """Answers that are wrong where told so, and less sure there."""
    sums = np.where(wrong, -2.0, -0.01) - np.arange(len(traces)) * 1e-6
    return pd.DataFrame(
        {
            "checkpoint_id": key,
            "prompt_id": traces["prompt_id"],
            "split": traces["split"],
            "output": np.where(wrong, "no", "yes"),
            "frontier_output": "yes",
            "agrees": ~wrong,
            **dict.fromkeys(["logprob_min", "logprob_p10", "logprob_mean", "logprob_sum"], sums),
            "tokens_in": 10,
            "tokens_out": 2,
            "finish_reason": "stop",
            "latency_ms": 5.0,
        }
    )


def held(candidate: float, champion: float | None, base: float, **options: Any) -> Contest:
    """A contest of models that are wrong on a share of the requests, the same ones first."""
    traces = prepared()
    luck = np.random.default_rng(0).random(N)
    rates = {"candidate": candidate, "champion": champion, "base": base}
    answers = {
        name: said(traces, luck < rate, name) for name, rate in rates.items() if rate is not None
    }
    settings: dict[str, Any] = {"base_was_fitted": True, "trained_until": None} | options
    embedder = Embedder.fit(traces["request_text"].tolist(), seed=0)
    return hold_contest(
        answers, traces, embedder, target_agreement=0.95, delta=0.05, tiers=Tiers(), **settings
    )


def test_requests_count_once_and_people_know_best() -> None:
    keys = [f"k{i // 2}" for i in range(N)]
    members = pd.DataFrame({"prompt_id": ["p0000"], "group_id": ["g1"]})
    feedback = pd.DataFrame(
        {
            "prompt_id": ["p0002", "p0002", "p0004"],
            "kind": ["modified", "modified", "accepted"],
            "edited_output": ["maybe", "no", None],
        }
    )
    rows = prepare(held_out().assign(dedup_key=keys), members, feedback).set_index("prompt_id")
    assert len(rows) == N // 2
    assert rows["group_id"].value_counts().to_dict() == {"unassigned": N // 2 - 1, "g1": 1}
    assert rows.loc[["p0000", "p0002", "p0004"], "reference"].tolist() == ["yes", "no", "yes"]
    assert set(prepared()["group_id"]) == {"t"}, "without groups the template stands in"


def test_an_equal_candidate_takes_the_place_and_everything_is_shown() -> None:
    until = pd.Timestamp("2026-09-01T10:00", tz="UTC")
    contest = held(0.02, 0.02, 0.2, trained_until=until)
    metrics = contest.metrics
    assert contest.decision.approved, contest.decision.reasons
    assert (metrics["rival"], metrics["n"]) == ("champion", N * 2 // 3)
    assert list(metrics["contestants"]) == ["candidate", "champion", "base"]
    against = metrics["differences"]["base"]
    assert against["agreement"]["low"] > 0.1
    assert set(against["tasks"]) == {"a", "b"}
    assert metrics["gate"]["coverage"]["candidate"] == metrics["gate"]["coverage"]["rival"] > 0.9
    assert metrics["fresh"]["n"] == 200
    assert metrics["fresh"]["since"] == until.isoformat()
    assert metrics["fresh"]["to_rival"]["agreement"]["difference"] == 0
    assert contest.gallery == [], "the two differ nowhere"


def test_a_worse_candidate_is_refused_with_examples() -> None:
    contest = held(0.08, 0.02, 0.2)
    assert not contest.decision.approved
    assert {entry["kind"] for entry in contest.gallery} == {"loss"}
    assert contest.metrics["fresh"] is None


def test_without_a_champion_a_fitted_base_is_a_rival_and_another_a_floor() -> None:
    fitted = held(0.1, None, 0.1)
    assert fitted.decision.approved, fitted.decision.reasons
    assert fitted.metrics["rival"] == "base"
    floor = held(0.1, None, 0.1, base_was_fitted=False)
    assert not floor.decision.approved
    assert "not significantly better" in floor.decision.reasons[0]
    assert held(0.05, None, 0.2, base_was_fitted=False).decision.approved


def test_what_is_quoted_rests_on_rows_that_decided_nothing() -> None:
    kept = [f"p{i:04d}" for i in range(N) if i % 9 == 1]
    contest = held(0.02, 0.02, 0.2, kept=kept)
    assert contest.metrics["n"] == contest.metrics["gate"]["n"] == N * 2 // 3 - len(kept)
    assert contest.metrics["gate"]["units"] < contest.metrics["n"], "two a conversation"
    quoted = contest.metrics["unspent"]
    assert quoted["n"] == len(kept)
    assert quoted["agreement"] == quoted["rival_agreement"]
    assert held(0.02, 0.02, 0.2, kept=kept[:39]).metrics["unspent"] is None


def test_a_few_fresh_rows_are_only_counted() -> None:
    late = pd.Timestamp("2026-09-01T14:50", tz="UTC")
    assert held(0.02, 0.02, 0.2, trained_until=late).metrics["fresh"] == {
        "since": late.isoformat(),
        "n": 6,
    }


def test_without_gold_nothing_is_judged() -> None:
    traces = prepared(split="calibration")
    embedder = Embedder.fit(traces["request_text"].tolist(), seed=0)
    answers = {name: said(traces, np.zeros(N, bool), name) for name in ("candidate", "base")}
    with pytest.raises(ValueError, match="no gold request"):
        hold_contest(
            answers,
            traces,
            embedder,
            target_agreement=0.95,
            delta=0.05,
            base_was_fitted=True,
            trained_until=None,
            tiers=Tiers(),
        )


def test_the_best_of_those_that_pass_is_approved() -> None:
    def contest(approved: bool, agreement: float) -> Contest:
        return Contest(Decision(approved, ["a reason"], {}), {"agreement": agreement}, [])

    verdicts = pick(
        {
            "first": contest(True, 0.95),
            "second": contest(True, 0.96),
            "third": contest(False, 0.99),
            "fourth": contest(True, 0.96),
        },
        {},
    )
    assert {k: v["status"] for k, v in verdicts.items()} == {
        "first": "retired",
        "second": "approved",
        "third": "rejected",
        "fourth": "retired",
    }
    assert verdicts["first"]["reason"].startswith("It passes, but second agrees at least as often")
    assert pick({}, {}) == {}


@pytest.mark.parametrize(("flagged", "stands"), [(0.03, "preferred"), (0.07, "supervised")])
def test_a_preference_stage_stands_only_if_it_hallucinates_less(
    flagged: float, stands: str
) -> None:
    def contest(agreement: float, hallucination: float) -> Contest:
        coverage = {"coverage": {"candidate": 0.8}}
        figures = {"validity": 1.0, "ece": 0.02, "gate": coverage, "agreement": agreement}
        figures |= {"validation_coverage": 0.8}
        decision = Decision(True, ["a reason"], {})
        return Contest(decision, figures | {"hallucination": hallucination}, [])

    supervised = contest(0.96, 0.05)
    contests = {"preferred": contest(0.95, flagged), "supervised": supervised}
    verdicts = pick(contests, {"preferred": ("supervised", supervised.metrics)})
    assert [key for key, v in verdicts.items() if v["status"] == "approved"] == [stands]
    assert f"hallucination_rate 0.0500 -> {flagged:.4f}" in verdicts["preferred"]["reason"]
