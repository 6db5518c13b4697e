"""Thoughts are no part of an answer, and what was cut off is known in any provider's words."""

from __future__ import annotations

import pytest

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.answers.said import CUT_OFF, EMPTY, no_target, said

LABEL = {"kind": "label", "labels": ["refund", "repair"]}


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("refund", "refund"),
        ("<think>It is 3 days.</think>\n\nrefund", "refund"),
        ("\n<Thinking>a</Thinking> <reasoning>b</reasoning> refund", "refund"),
        ("no tag was opened</think>refund", "refund"),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>refund<|return|>",
            "refund",
        ),
        ("<think>it never ends, refund", ""),
        ("<think></think>", ""),
        ("Write <think> tags, please.", "Write <think> tags, please."),
        ("Close it with <think>x</think> there.", "Close it with <think>x</think> there."),
        ("a < b", "a < b"),
    ],
)
def test_what_was_said_is_what_comes_after_the_thoughts(output: str, left: str) -> None:
    assert said(output) == left
    assert said(left) == left


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "incomplete", " length "]
)
def test_a_cut_answer_is_no_target_in_any_providers_words(reason: str) -> None:
    assert no_target("Dear customer, the", reason) == CUT_OFF


@pytest.mark.parametrize("output", ["", " \n", "<think>x</think> ", "<think>x"])
def test_nothing_said_is_no_target(output: str) -> None:
    assert no_target(output, "stop") == EMPTY


@pytest.mark.parametrize("reason", [None, "stop", "end_turn", float("nan")])
def test_a_whole_answer_is_a_target(reason: object) -> None:
    assert no_target("refund", reason) is None


def test_answers_agree_whatever_was_thought() -> None:
    assert agrees("<think>why not repair?</think>refund", "Refund", LABEL)
    assert not agrees("<think>refund</think>repair", "refund", LABEL)
