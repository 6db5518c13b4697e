from typing import Any

import pandas as pd
import pytest

from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.pairs import COLUMNS, label_pairs
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline_tests.labels.conftest import Maker

LABEL = {"kind": "label", "labels": ["refund", "refunds", "cancel"]}
UP, DOWN = {"kind": "thumb_up"}, {"kind": "thumb_down"}
ACCEPTED, REJECTED, AGAIN = {"kind": "accepted"}, {"kind": "rejected"}, {"kind": "regenerated"}
GOOD, BAD = {"kind": "review", "value": 1.0}, {"kind": "review", "value": 0.0}
EDIT = {"kind": "modified", "edited_output": "refunds"}
OTHER = {"kind": "modified", "edited_output": "cancel"}
OUTSIDE = {"kind": "modified", "edited_output": "a gift"}
CORRECTED = BAD | {"edited_output": "refunds"}
POSITIVE, CORRECTION = {"sft", "kto_pos"}, {"sft", "kto_pos", "dpo"}


def _scores(score: float | None, threshold: float | None) -> pd.DataFrame:
    row = {"prompt_id": "p0", "score": score, "threshold": threshold}
    return pd.DataFrame([row | {"origin": "model", "version": "q"}])


@pytest.fixture
def kinds(make_traces: Maker, make_feedback: Maker, make_flags: Maker) -> Maker:
    def run(
        *feedback: dict[str, Any],
        producer: str = "frontier",
        flag: str | None = None,
        score: float | None = 0.99,
        threshold: float | None = 0.9,
        **fields: Any,
    ) -> pd.DataFrame:
        traces = make_traces({"contract": LABEL, "producer": producer} | fields)
        flags = make_flags(traces, flag=flag is not None, tier=flag or "T0")
        scores = _scores(score, threshold)
        said = make_feedback(*feedback)
        return label_pairs(traces, said, flags, scores, verdicts(said), tiers=Tiers())

    return run


@pytest.mark.parametrize(
    ("feedback", "options", "expected"),
    [
        ([ACCEPTED], {}, POSITIVE),
        ([UP], {"producer": "human"}, POSITIVE),
        ([], {}, POSITIVE),
        ([ACCEPTED], {"score": 0.5}, set()),
        ([ACCEPTED], {"score": None}, set()),
        ([ACCEPTED], {"threshold": None}, set()),
        ([ACCEPTED], {"flag": "T1"}, {"kto_neg"}),
        ([], {"flag": "T0"}, {"kto_neg"}),
        ([REJECTED], {}, {"kto_neg"}),
        ([DOWN], {}, {"kto_neg"}),
        ([AGAIN], {}, set()),
        ([EDIT], {"score": 0.1, "threshold": None}, CORRECTION),
        ([OTHER], {}, POSITIVE),  # another answer altogether: a target, not a preference
        ([OUTSIDE], {}, set()),
        ([GOOD], {"score": 0.1, "threshold": None}, POSITIVE),
        ([GOOD], {"flag": "T1"}, POSITIVE),
        ([GOOD], {"flag": "T0"}, set()),
        ([BAD], {}, {"kto_neg"}),
        ([BAD, ACCEPTED], {}, {"kto_neg"}),
        ([REJECTED, GOOD], {}, POSITIVE),
        ([CORRECTED], {}, CORRECTION),
        ([ACCEPTED, REJECTED], {}, {"kto_neg"}),
        ([REJECTED, ACCEPTED], {}, POSITIVE),
        ([EDIT, REJECTED], {}, {"kto_neg"}),
        ([REJECTED, EDIT], {}, CORRECTION),
        ([GOOD], {"finish_reason": "max_tokens"}, set()),
        ([ACCEPTED], {"finish_reason": "length"}, set()),
        ([BAD], {"finish_reason": "length"}, {"kto_neg"}),
        ([GOOD], {"output": ""}, set()),
        ([GOOD], {"output": "<think>nothing comes of it"}, set()),
        ([REJECTED], {"output": " "}, set()),
        ([GOOD | {"edited_output": "<think>refunds"}], {"output": ""}, set()),
        ([], {"producer": "student"}, set()),
        ([ACCEPTED], {"producer": "student"}, set()),
        ([GOOD], {"producer": "student"}, set()),
        ([REJECTED], {"producer": "student"}, {"kto_neg"}),
        ([EDIT], {"producer": "student"}, CORRECTION),
    ],
)
def test_mapping(kinds, feedback, options, expected) -> None:
    pairs = kinds(*feedback, **options)
    assert set(pairs["kind"]) == expected
    assert list(pairs.columns) == COLUMNS
    assert pairs["reason"].str.len().gt(0).all()
    assert pairs["pair_id"].is_unique
    chosen = pairs.set_index("kind")["chosen"]
    edited = any(f is EDIT or f is CORRECTED for f in feedback) and "dpo" in expected
    for kind in expected & POSITIVE:
        assert chosen[kind] == (
            "refunds" if edited else "cancel" if OTHER in feedback else "refund"
        )


def test_dpo_prefers_the_edit_and_negatives_hold_the_output(kinds) -> None:
    pair = kinds(EDIT).set_index("kind").loc["dpo"]
    assert (pair["chosen"], pair["rejected"]) == ("refunds", "refund")
    negative = kinds(REJECTED).iloc[0]
    assert (negative["chosen"], negative["rejected"]) == (None, "refund")


def test_ids_depend_on_content_only(kinds) -> None:
    assert kinds(EDIT)["pair_id"].tolist() == kinds(EDIT, score=0.2)["pair_id"].tolist()


def test_missing_flag_or_score_is_named(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({}, {})
    scores, said = _scores(1.0, None), make_feedback()
    with pytest.raises(ValueError, match="no score, first p1"):
        label_pairs(traces, said, make_flags(traces), scores, verdicts(said), tiers=Tiers())
    with pytest.raises(ValueError, match="no flag, first p1"):
        label_pairs(
            traces, said, make_flags(traces).iloc[:1], scores, verdicts(said), tiers=Tiers()
        )


@pytest.mark.parametrize("kind", ["copied", "dwell", "judge"])
def test_a_look_is_no_reaction(kinds, kind: str) -> None:
    assert set(kinds(REJECTED, {"kind": kind, "value": 1.0})["kind"]) == {"kto_neg"}
    assert set(kinds({"kind": kind, "value": 0.0})["kind"]) == POSITIVE


def test_a_thought_is_no_part_of_what_is_learned(kinds: Maker) -> None:
    pairs = kinds(GOOD, output="<think>a refund, surely</think>\n\nrefund")
    assert set(pairs["chosen"]) == {"refund"}
