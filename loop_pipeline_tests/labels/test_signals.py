import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.labels.signals import edit_distance, signals


def _plain(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_edit_distance_is_levenshtein(a: str, b: str) -> None:
    assert edit_distance(a, b) == pytest.approx(_plain(a, b) / max(len(a), len(b), 1))


def test_long_texts_are_compared_by_words() -> None:
    text = "word " * 3000
    assert edit_distance(text, text + "end") == pytest.approx(1 / 3001)


def test_signals(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({}, {"latency_ms": None, "task": None}, {}, {})
    feedback = make_feedback(
        {"kind": "accepted"},
        {"kind": "review", "value": 0.0, "prompt_id": "p1"},
        {"kind": "modified", "edited_output": "refunds", "prompt_id": "p2"},
        {"kind": "rating", "value": 0.25, "prompt_id": "p3"},
        {"kind": "accepted", "prompt_id": "another day"},
    )
    frame = signals(traces, feedback, make_flags(traces))
    assert list(frame.index) == ["p0", "p1", "p2", "p3"]
    assert frame.notna().all(axis=None)
    assert set(frame.dtypes) == {np.dtype(float)}
    assert frame["accepted"].tolist() == [1, 0, 0, 0]
    assert frame["no_feedback"].tolist() == [0, 1, 0, 0]
    assert frame["edit_distance"].tolist() == pytest.approx([0, 0, 1 / 7, 0])
    assert frame["rating"].tolist() == [0.5, 0.5, 0.5, 0.25]
    assert frame["latency_missing"].tolist() == [0, 1, 0, 0]
    assert frame["task=intent"].tolist() == [1, 0, 1, 1]


def test_reviews_are_not_signals(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({}, {})
    review = make_feedback({"kind": "review", "value": 0.0, "edited_output": "x"})
    frame = signals(traces, review, make_flags(traces))
    assert frame.equals(signals(traces, make_feedback(), make_flags(traces)))


def test_trace_without_flag_is_named(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({}, {})
    with pytest.raises(ValueError, match="p1"):
        signals(traces, make_feedback(), make_flags(traces).iloc[:1])
