import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.labels.signals import edit_distance, features, trace_signals
from loop_pipeline.store.database import records

START = dt.datetime(2026, 9, 1, 23, 40, tzinfo=dt.UTC)


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
    label = {"kind": "label", "labels": ["refund"]}
    traces = make_traces(
        {"contract": label, "logprobs": {"min": -2.0, "p10": -0.5, "mean": -0.1}},
        {"latency_ms": None, "task": None},
        {},
        {"contract": label},
        {},
    )
    feedback = make_feedback(
        {"kind": "rejected"},
        {"kind": "accepted"},
        {"kind": "thumb_down"},
        {"kind": "copied"},
        {"kind": "review", "value": 0.0, "prompt_id": "p1"},
        {"kind": "modified", "edited_output": "refunds", "prompt_id": "p2"},
        *({"kind": "rating", "value": v, "prompt_id": "p3"} for v in (0.0, 0.5)),
        {"kind": "dwell", "value": 40.0, "prompt_id": "p3"},
        {"kind": "judge", "value": 0.9, "prompt_id": "p3"},
        {"kind": "accepted", "prompt_id": "another day"},
    )
    flags = make_flags(traces)
    flags["tier"] = ["T0", "T1", "T1", "T0", "T1"]
    flags["grounded"] = ["yes", "cannot_tell", "yes", "no", "no"]
    flags["score"] = [0.0, 0.5, 0.2, 1.0, 0.7]
    frame = trace_signals(traces, feedback, flags, verdicts(feedback)).set_index("prompt_id")
    assert frame["action"].tolist() == ["accepted", None, "modified", None, None]
    assert records(frame[["thumb", "rating", "dwell_s", "judge"]])[3] == {
        "thumb": None,
        "rating": 0.25,
        "dwell_s": 40.0,
        "judge": 0.9,
    }
    assert frame["thumb"].iloc[0] == 0
    assert frame["copied"].tolist() == [True, None, False, False, None]
    assert frame["edit_distance"].tolist()[2] == pytest.approx(1 / 7)
    assert frame["edit_distance"].notna().sum() == 1
    assert frame["contract_valid"].tolist() == [True, None, None, False, None]
    grounding = frame["grounding"].tolist()
    assert grounding[2] == pytest.approx(0.8)
    assert grounding[4] == pytest.approx(0.3)
    assert frame["grounding"].isna().tolist() == [True, True, False, True, False]
    assert frame["logprob_p10"].tolist()[0] == -0.5
    assert frame["reviews"].tolist() == [0, 1, 0, 0, 0]
    assert frame["review_good"].iloc[1] < 0.5
    assert frame["latency_ms"].isna().tolist() == [False, True, False, False, False]


def test_features_are_numbers_and_reviews_are_not_among_them(
    make_traces, make_feedback, make_flags
) -> None:
    traces = make_traces({}, {"latency_ms": None})
    review = make_feedback({"kind": "review", "value": 0.0, "edited_output": "x"})
    flags = make_flags(traces)
    with_review = features(trace_signals(traces, review, flags, verdicts(review)))
    without = features(trace_signals(traces, make_feedback(), flags))
    assert set(with_review.dtypes) == {np.dtype(float)}
    assert with_review.equals(without)
    assert without["latency_ms_missing"].tolist() == [0, 1]
    assert without["no_action"].tolist() == [1, 1]
    assert not [name for name in with_review if "review" in str(name)]


def test_asking_again_within_half_an_hour_is_seen_across_midnight(
    make_traces, make_feedback, make_flags
) -> None:
    def ask(text: str, minute: int, who: str) -> dict:
        return {
            "messages": [{"role": "user", "content": text}],
            "ts": START + dt.timedelta(minutes=minute),
            "user_hash": who,
        }

    rows = [
        ask("where is my parcel 123 please", 0, "ann"),
        ask("where is my order please", 1, "bob"),
        ask("where is my parcel 123 now please", 12, "ann"),
        ask("how do I cancel a subscription", 20, "ann"),
        ask("where is my order please", 45, "bob"),
    ]
    traces = make_traces(*rows)
    flags = make_flags(traces)
    minutes = trace_signals(traces, make_feedback(), flags)["reasked_minutes"].tolist()
    assert minutes[0] == 12
    assert all(np.isnan(minutes[1:]))
    split = trace_signals(traces.iloc[:2], make_feedback(), flags, later=traces.iloc[2:])
    assert split["reasked_minutes"].tolist()[0] == 12


def test_the_steps_of_an_agents_run_are_nobody_asking_again(
    make_traces, make_feedback, make_flags
) -> None:
    asked = {"role": "user", "content": "Order a bell and a lamp"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    results = [
        {"role": "tool", "tool_call_id": "c", "content": '{"status": "ok"}'},
        {"role": "user", "content": [{"type": "tool_result", "content": "ok"}]},
        {"role": "function", "name": "order", "content": "ok"},
    ]
    for result in results:
        turns = [[asked], *([asked, *[called, result] * n] for n in range(1, 4))]
        turns += [[asked, called, result, {"role": "assistant", "content": "Done"}, asked]]
        traces = make_traces(
            *(
                {"messages": messages, "ts": START + dt.timedelta(seconds=10 * n)}
                | {"conversation_id": "run"}
                for n, messages in enumerate(turns)
            )
        )
        flags = make_flags(traces)
        minutes = trace_signals(traces, make_feedback(), flags)["reasked_minutes"].tolist()
        # Only the last step is followed by a person who asks the same again.
        assert [m == pytest.approx(1 / 6) for m in minutes] == [False, False, False, True, False]
        assert np.isnan(minutes[:3]).all()


def test_words_are_counted_where_none_are_spaced(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({"output": "您的车铃将于本周四送达。"}, {"output": "It comes on Monday."})
    words = trace_signals(traces, make_feedback(), make_flags(traces))["words"].tolist()
    assert words == [6, 4]


def test_trace_without_flag_is_named(make_traces, make_feedback, make_flags) -> None:
    traces = make_traces({}, {})
    with pytest.raises(ValueError, match="p1"):
        trace_signals(traces, make_feedback(), make_flags(traces).iloc[:1])
