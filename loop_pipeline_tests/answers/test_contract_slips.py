"""A right answer in another form says the same; a wrong one never becomes right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loop_pipeline.answers.agreement import agrees, fields_right
from loop_pipeline.answers.contract import hold, in_form
from loop_pipeline.answers.forms.answer_words import LEADING
from loop_pipeline_tests.answers.forms_samples import DRESSES, FENCES, LISTS
from loop_pipeline_tests.shared import ends

WORDS = [
    "delivery",
    "refund",
    "late",
    "rückgabe",
    "größe",
    "退款",
    "送货",
    "वापसी",
    "status",
    "item",
]
LABELS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(" ".join),
    min_size=2,
    max_size=6,
    unique=True,
)
SHOP = {"kind": "label", "labels": ["delivery", "refund", "delivery late", "cancel_order"]}
SCHEMA = {
    "kind": "json",
    "schema": {"type": "object", "required": ["intent"], "properties": {"n": {"type": "integer"}}},
}


@settings(max_examples=400)
@given(LABELS, st.data())
def test_a_label_in_any_dress_is_that_label_and_no_other(labels: list[str], data) -> None:
    contract = {"kind": "label", "labels": labels}
    label, dress = data.draw(st.sampled_from(labels)), data.draw(st.sampled_from(DRESSES))
    answer = dress(label)
    held = hold(answer, contract, "")
    assert held.reasons == []
    assert in_form(answer, contract).strip().casefold() == label.casefold()
    for other in labels:
        assert agrees(answer, other, contract) is (other == label)
        assert agrees(other, answer, contract) is (other == label)


def test_a_label_that_ends_as_another_does_is_found_where_no_space_stands_before_it() -> None:
    contract = {"kind": "label", "labels": ["refund delivery", "delivery"]}
    assert in_form("答案是refund delivery。", contract) == "refund delivery"
    assert in_form("答案是delivery。", contract) == "delivery"
    assert hold("答案是refund delivery和delivery。", contract, "").reasons


@settings(max_examples=400)
@given(LABELS, st.data())
def test_what_is_not_in_the_set_is_in_no_dress(labels: list[str], data) -> None:
    wrong = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join))
    assume(wrong not in labels)
    dress = data.draw(st.sampled_from(DRESSES))
    assert hold(dress(wrong), {"kind": "label", "labels": labels}, "").reasons


@settings(max_examples=300)
@given(LABELS, st.data())
def test_tags_in_any_list_are_the_same_set(labels: list[str], data) -> None:
    contract = {"kind": "tags", "labels": labels}
    tags = data.draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    answer = data.draw(st.sampled_from(LISTS))(tags)
    assert hold(answer, contract, "").reasons == []
    assert agrees(answer, ", ".join(sorted(tags)), contract)
    assert {*in_form(answer, contract).split(", ")} == {*tags}
    if missing := [label for label in labels if label not in tags]:
        assert not agrees(answer, ", ".join([*tags, missing[0]]), contract)
        assert hold(answer, {"kind": "tags", "labels": missing}, "").reasons


@pytest.mark.parametrize("dress", FENCES)
@pytest.mark.parametrize("bare", ['{"intent": "refund", "n": 1}', '{"intent": "use ```js``` {x}"}'])
def test_json_in_a_fence_or_between_sentences_is_that_json(dress, bare: str) -> None:
    answer = dress(bare)
    assert hold(answer, SCHEMA, "") == ([], bare)
    assert in_form(answer, SCHEMA) == bare
    assert agrees(answer, bare, SCHEMA)
    assert fields_right(answer, bare, SCHEMA)["intent"]
    assert not agrees(answer, '{"intent": "repair"}', SCHEMA)
    assert hold(dress('{"n": 1}'), SCHEMA, "").reasons == ["$ lacks 'intent'"]


@pytest.mark.parametrize(
    "answer",
    [
        *('{"intent": {"a": 1}', '{"intent": "a"}\n{"intent": "b"}', '[1] {"intent": 1}', "refund"),
        *('```json\n{"intent": "a"}\n```\nor\n```json\n{"intent": "b"}\n```', "```json\n```", ""),
    ],
)
def test_json_that_is_cut_off_or_given_twice_is_none(answer: str) -> None:
    assert hold(answer, SCHEMA, "").reasons
    assert in_form(answer, SCHEMA) == answer


@pytest.mark.parametrize(
    "answer",
    [
        *("not delivery", "delivery?", "delivery or refund", "delivery, refund", "Not: delivery"),
        *("Anything but delivery", "late delivery", "deliveries", "non-delivery", "delivery..."),
        *("delivery…", "delivery\n\nWait, that is wrong, I think.", "The answer is not delivery."),
        *("refund/delivery", "Everything except: delivery", "delivery (late)", "unlike delivery"),
        *("customer refund", "delivery\nrefund", '{"a": "delivery", "b": "refund"}', "delivery*2"),
        *("delivery. Actually, it is about a refund.", "refund late", "no", "", "Label:"),
    ],
)
def test_what_is_not_certain_breaks_the_contract(answer: str) -> None:
    assert hold(answer, SHOP, "").reasons
    assert hold(answer, SHOP, "").form is None
    assert not agrees(answer, "delivery", SHOP)


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (["C", "C++", "C#"], "C++.", "C++"),
        (["C", "C++", "C#"], "C.", "C"),
        (["1", "2"], "2.", "2"),
        (["退款", "不退款"], "不退款。", "不退款"),
        (["yes", "no"], "No. The customer has written twice already.", "no"),
        (["cancel_order"], "Cancel order", "cancel_order"),
    ],
)
def test_the_label_is_the_whole_of_what_is_left(labels, answer, label) -> None:
    assert hold(answer, {"kind": "label", "labels": labels}, "") == ([], label)


@pytest.mark.parametrize(
    ("labels", "answer"),
    [(["C", "D"], "C++"), (["1", "2"], "-1"), (["52"], "5²"), (["1", "x"], "1. x"), (["1"], "1.5")],
)
def test_a_sign_that_belongs_to_an_answer_is_not_taken_off(labels, answer) -> None:
    assert hold(answer, {"kind": "label", "labels": labels}, "").reasons


def test_what_keeps_its_contract_stays_as_it_is_to_the_letter() -> None:
    for answer, contract in [
        (" Refund ", SHOP),
        ('{ "intent":1}', SCHEMA),
        ("refund,Delivery", SHOP | {"kind": "tags"}),
    ]:
        assert in_form(answer, contract) is answer


def test_no_dress_is_made_of_words_that_say_something() -> None:
    assert LEADING.isdisjoint({"not", "no", "but", "except", "nicht", "kein", "pas", "sans", "sin"})


@pytest.mark.parametrize("sign", ['"', "*", "- ", "{", "[", "```\n", "Label: ", "is ", "a. ", ", "])
def test_a_long_answer_of_signs_takes_no_time(sign: str) -> None:
    contracts: list[dict[str, Any]] = [SHOP, SHOP | {"kind": "tags"}, SCHEMA]
    with ends():
        for size in (3_900, 100_000):
            for contract in contracts:
                hold((sign * size)[:size], contract, "")


@settings(max_examples=200)
@given(st.text(max_size=60), st.sampled_from(["label", "tags", "json"]))
def test_the_plain_form_keeps_the_contract_whatever_was_said(text: str, kind: str) -> None:
    contract = {**SHOP, **SCHEMA, "kind": kind}
    held = hold(text, contract, "")
    if held.form is not None:
        assert hold(held.form, contract, "") == ([], None)
        assert agrees(text, held.form, contract)
        assert kind != "json" or isinstance(json.loads(held.form), dict)
