import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.evaluation.metrics import (
    expected_calibration_error,
    reliability_bins,
    summarise,
    summarise_by,
)
from loop_pipeline.stats.binomial import clopper_pearson


def judged(n: int, **columns: Any) -> pd.DataFrame:
    """Judged answers to labels, all of them right."""
    rows: dict[str, Any] = {
        "prompt_id": [f"p{i}" for i in range(n)],
        "task": "route",
        "group_id": "g",
        "kind": "label",
        "agrees": True,
        "same_as_reference": True,
        "valid": True,
        "told": True,
        "flagged": False,
        "confidence": 0.9,
        "tags": None,
        "fields": None,
        "rouge_l": None,
        "similarity": np.nan,
        "latency_ms": 5.0,
        "tokens_in": 10,
        "tokens_out": 2,
        "finish_reason": "stop",
    }
    return pd.DataFrame(rows | columns)


def test_the_summary_has_every_figure_by_task_and_group() -> None:
    rows = judged(
        6,
        task=["route", "tag"] * 3,
        group_id=["a", "a", "a", "b", "b", "b"],
        kind=["label", "tags"] * 3,
        agrees=[True, False, True, False, True, False],
        same_as_reference=[False, False, True, False, True, False],
        # 3 of the 4 given and 6 wanted tags are common: F1 = 2 * 3 / 10
        tags=[None, (2, 2, 1), None, (1, 2, 1), None, (1, 2, 1)],
        valid=[True, False, True, True, True, True],
        flagged=[False, True, False, False, False, False],
        told=[True, True, True, True, False, False],
        finish_reason=["stop"] * 4 + ["too_long", "length"],
    )
    figures = json.loads(json.dumps(summarise(rows)))
    assert (figures["n"], figures["agreement"]) == (6, 0.5)
    assert figures["agreement_low"] == pytest.approx(0.1181, abs=1e-4)
    assert figures["measure"] == "exact agreement"
    assert figures["validity"] == pytest.approx(5 / 6)
    assert (figures["hallucination"], figures["cannot_tell"]) == (0.25, 2)
    assert figures["quality"] == pytest.approx(1 / 3)
    assert figures["tasks"]["route"]["agreement"] == 1.0
    assert figures["tasks"]["route"]["auroc"] is None
    assert figures["tasks"]["tag"]["tags_micro_f1"] == pytest.approx(0.6)
    assert figures["tokens_out"] == 12
    assert figures["latency_ms"]["p50"] == 5.0
    assert (figures["too_long"], figures["cut_off"]) == (1, 1)
    assert {k: v["agreement"] for k, v in summarise_by(rows, "group_id").items()} == pytest.approx(
        {"a": 2 / 3, "b": 1 / 3}
    )


def test_fields_are_counted_by_name() -> None:
    rows = judged(3, kind="json", fields=[{"id": True, "when": False}, {"id": True}, {"id": False}])
    figures = summarise(rows)
    assert figures["field_rate"] == 0.5
    assert figures["fields"] == pytest.approx({"id": 2 / 3, "when": 0.0})


def test_texts_are_called_lexical_and_have_their_own_measures() -> None:
    rows = judged(
        2, kind="text", agrees=[True, False], rouge_l=[1.0, 0.2], confidence=[0.9, 0.1]
    ).assign(similarity=[1.0, 0.5])
    figures = summarise(rows)
    assert figures["measure"] == "lexical agreement (ROUGE-L >= 0.8, same numbers)"
    assert (figures["rouge_l"], figures["similarity"]) == (0.6, 0.75)
    assert figures["auroc"] == 1.0


def test_nothing_can_be_told_without_rows() -> None:
    figures = json.loads(json.dumps(summarise(judged(0))))
    assert figures["n"] == 0
    assert figures["agreement"] is figures["ece"] is figures["hallucination"] is None


def test_intervals_and_calibration_against_known_values() -> None:
    assert clopper_pearson(0, 59) == pytest.approx((0.0, 0.0606), abs=1e-4)
    assert clopper_pearson(90, 100) == pytest.approx((0.8238, 0.9510), abs=1e-4)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    honest = rng.random(20_000) < confidence
    assert expected_calibration_error(confidence, honest) < 0.02
    assert expected_calibration_error(np.full(100, 0.9), np.zeros(100, bool)) == pytest.approx(0.9)
    assert expected_calibration_error(np.ones(10), np.ones(10, bool)) == 0.0


def test_the_bins_of_the_reliability_diagram_are_those_of_the_error() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(5_000)
    right = rng.random(5_000) < confidence**2
    bins = reliability_bins(judged(5_000, confidence=confidence, agrees=right))
    assert sum(row["n"] for row in bins) == 5_000
    gap = sum(row["n"] * abs(row["confidence"] - row["agreement"]) for row in bins) / 5_000
    assert gap == pytest.approx(expected_calibration_error(confidence, right))
    assert all(row["low"] <= row["agreement"] <= row["high"] for row in bins)
    [only] = reliability_bins(judged(3, confidence=1.0))
    assert (only["bin"], only["agreement"]) == (9, 1.0)
