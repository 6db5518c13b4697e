"""A student reads the same turns when it learns and when it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from loop_pipeline.serving.student_answer import question_body
from loop_pipeline.traces.messages import dedup_key, template_hash, without_answer
from loop_pipeline.traces.student_turns import NotAText, student_turns


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _part(text: Any, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def test_parts_a_developer_and_turns_in_a_row_are_read_as_templates_need_them() -> None:
    given = [
        {"role": "developer", "content": [_part("Be short.", cache_control={})]},
        _user([_part("a"), {"type": "input_text", "text": "b"}]),
        _user("c"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "one", "tool_call_id": "1"},
        {"role": "tool", "content": "two", "tool_call_id": "2"},
    ]
    turns = student_turns(given)
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", "tool"]
    assert [turn["content"] for turn in turns] == ["Be short.", "a\nb\n\nc", "", "one", "two"]
    assert question_body("m", given, 5)["messages"] == turns
    assert given[1]["content"][0] == _part("a")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url"}],
        [_part(None)],
        ["text"],
        [_part("a"), {"type": ["odd"]}],
        {"a": 1},
        5,
    ],
)
def test_what_is_no_text_is_named_and_nothing_else_happens(content: Any) -> None:
    with pytest.raises(NotAText, match="turn 0"):
        student_turns([_user(content)])
    assert question_body("m", [_user(content)], 5)["messages"] == [_user(content)]
    dedup_key([_user(content)])


def test_one_request_has_one_key_and_one_template_in_whatever_parts_it_comes() -> None:
    ways: list[Any] = ["Sort it.", [_part("Sort it.")], [_part("Sort it.", cache_control={"x": 1})]]
    keys = {dedup_key([_user(way)]) for way in ways}
    assert len(keys) == 1
    assert len({template_hash([{"role": "system", "content": way}]) for way in ways}) == 1
    assert dedup_key([_user([{"type": "image_url", "url": "b"}])]) not in keys


def test_the_answer_at_the_end_of_the_log_is_taken_off_the_prompt() -> None:
    asked, said = _user("where?"), {"role": "assistant", "content": [_part("at home ")]}
    assert without_answer([asked, said], "at  home") == [asked]
    assert without_answer([asked, said], "elsewhere") == [asked, said]
    assert without_answer([said], "at home") == [said]
    assert without_answer([asked, {"role": "assistant", "content": ""}], "") != [asked]
