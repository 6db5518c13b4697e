from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_pipeline.answers.agreement import agrees, canonical, fields_right, rouge_l

LABEL = {"kind": "label", "labels": ["cash", "card"]}
TAGS = {"kind": "tags", "labels": ["billing", "login", "urgent"]}
JSON = {"kind": "json", "schema": {"type": "object", "required": ["id", "when"]}}
TEXT = {"kind": "text", "max_words": 30}


@pytest.mark.parametrize(
    ("a", "b", "contract", "same"),
    [
        ("Cash", " cash\n", LABEL, True),
        ("cash", "card", LABEL, False),
        ("urgent, billing", "billing,Urgent", TAGS, True),
        ("billing", "billing, urgent", TAGS, False),
        ("none", "", TAGS, True),
        ('{"a": 1, "b": [1.0]}', '{"b":[1],"a":1.0}', JSON, True),
        ('{"a": 1}', '{"a": true}', JSON, False),
        ('{"a": 1}', '{"a": "1"}', JSON, False),
        ("not json", "not json", JSON, False),
        ("[" * 100_000, "[" * 100_000, JSON, False),
        ("The customer asks for a refund.", "the customer asks for a refund", TEXT, True),
        ("The customer asks for a refund of order 1", "A parcel is lost", TEXT, False),
        ("", "", None, True),
        ("", "something", None, False),
    ],
)
def test_agreement(a: str, b: str, contract: dict[str, Any] | None, same: bool) -> None:
    assert agrees(a, b, contract) is same
    assert agrees(b, a, contract) is same


def slow_rouge(a: list[str], b: list[str]) -> float:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = (
                table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
            )
    return 2 * table[-1, -1] / (len(a) + len(b))


words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=90)


@settings(max_examples=60)
@given(words, words)
def test_rouge_l_is_that_of_the_textbook(a: list[str], b: list[str]) -> None:
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(slow_rouge(a, b))


@settings(max_examples=60)
@given(st.text(), st.sampled_from([LABEL, TAGS, JSON, TEXT, None]))
def test_any_text_agrees_with_its_canonical_form(
    text: str, contract: dict[str, Any] | None
) -> None:
    form = canonical(text, contract)
    assert canonical(form, contract) == form
    if contract is not JSON:
        assert agrees(text, form, contract)


def test_a_wrong_number_never_agrees() -> None:
    said = "Customer asks for a refund of order 48213."
    assert agrees(said, "Customer asks for a refund for order 48213.", TEXT)
    assert not agrees(said, "Customer asks for a refund of order 11111.", TEXT)
    assert not agrees(said, "Customer asks for a refund of the order.", TEXT)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ('{"id": 7.0, "x": {"b": 1, "a": 2}}', {"id": True, "when": True, "x": True}),
        ('{"id": 8, "when": null}', {"id": False, "when": False, "x": False}),
        ("[7]", {"id": False, "when": False, "x": False}),
        ("no json", {"id": False, "when": False, "x": False}),
    ],
)
def test_fields_are_compared_one_by_one(given: str, right: dict[str, bool]) -> None:
    # "when" is required, but the frontier left it out: leaving it out is then right.
    wanted = '{"id": 7, "x": {"a": 2, "b": 1}}'
    assert fields_right(given, wanted, JSON) == right
    assert fields_right(given, "the frontier said no JSON", JSON) == {}
