"""One request in full: doubtful places, other answers, what was said of it."""

from __future__ import annotations

import datetime as dt

import pytest

from loop_pipeline.gateway.admin.decision_words import decision_words
from loop_pipeline.gateway.admin.one_request import one_request, pieces
from loop_pipeline_tests.gateway.admin.live_store import ADAPTER, line

NOW = dt.datetime(2026, 9, 1, 10, tzinfo=dt.UTC)


def span(start: int, end: int) -> dict:
    return {"start": start, "end": end, "why": f"{start}"}


@pytest.mark.parametrize(
    ("spans", "marked"),
    [
        ([], []),
        ([span(0, 2)], ["😀a"]),
        ([span(3, 99)], ["cd"]),
        ([span(2, 4), span(1, 3)], ["ab", "c"]),
        ([span(4, 2), span(-5, 1)], ["😀"]),
    ],
)
def test_a_text_is_cut_where_doubt_begins_and_ends_and_nothing_is_lost(spans, marked):
    cut = pieces("😀abcd", spans)
    assert "".join(piece["text"] for piece in cut) == "😀abcd"
    assert [piece["text"] for piece in cut if piece["why"] is not None] == marked


def test_an_answer_without_a_text_is_one_empty_piece():
    assert pieces("", []) == [{"text": "", "why": None}]


def test_a_decision_reads_as_sentences():
    said = decision_words(line("p", NOW, "escalated", route={"shadow": True}), "orders")
    assert said == [
        "The student was asked first, but the frontier's answer went out.",
        "Task group: orders.",
        "Why it was routed so: group orders is the student's.",
        f"Model asked: {ADAPTER}.",
        "Confidence in the answer: 0.410; at least 0.900 is needed: not enough.",
        "What became of the student's answer: not sure enough.",
        "It was drawn, by chance, to be answered by all models, as a check.",
    ]


def test_tool_calls_and_pictures_have_a_place_in_the_conversation():
    row = line("p", NOW, "frontier")
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"n": 1}'}}
    row["messages"] = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool"},
    ]
    found = one_request([row], feedback=[], flag=None, groups={})
    assert [turn["text"] for turn in found["conversation"]] == [
        "look\n[image_url, not shown]",
        '[calls a tool: find({"n": 1})]',
        "",
    ]


def test_feedback_that_is_in_spool_and_store_is_shown_once():
    waiting = {"kind": "thumb_up", "actor": "alice", "ts": NOW.isoformat()}
    stored = waiting | {"ts": NOW, "value": None, "edited_output": None, "feedback_id": "x"}
    found = one_request(
        [line("p", NOW, "frontier")], feedback=[waiting, stored], flag=None, groups={}
    )
    assert len(found["feedback"]) == 1


def test_the_flag_of_the_store_beats_the_one_of_the_moment():
    row = line("p", NOW, "student", route={"flag": {"flag": False, "reasons": []}})
    later = {"flag": True, "grounded": "no", "reasons": ["x"], "spans": [span(0, 3)]}
    found = one_request([row], feedback=[], flag=later, groups={})
    assert found["flag"]["flagged"]
    assert found["answer"][0] == {"text": "del", "why": "0"}
