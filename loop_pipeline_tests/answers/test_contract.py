import contextlib
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loop_pipeline.answers.agreement import agrees, fields_right
from loop_pipeline.answers.contract import UnsupportedContract, check_contract
from loop_pipeline.answers.facts import fact_spans, unsupported_facts
from loop_pipeline.answers.schemas.schema_words import NAMED, ONE, REMARKS, SEVERAL
from loop_pipeline_tests.shared import ends

LABELS = ["cancel_order", "refund", "Where is it"]
LABEL, TAGS = {"kind": "label", "labels": LABELS}, {"kind": "tags", "labels": LABELS}
TEXT = {"kind": "text", "max_words": 12}
SCHEMA = {
    "kind": "json",
    "schema": {
        "type": "object",
        "required": ["intent"],
        "additionalProperties": False,
        "properties": {
            "intent": {"enum": ["refund", "cancel"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "ids": {"type": "array", "items": {"type": "string", "pattern": "^A-"}},
        },
    },
}
REQUEST = (
    "Order A-48213 of 2026-03-01, two bags at $1,250.00, mail ann@shop.example,"
    " see https://shop.example/o/7 between 10 and 15 o'clock"
)


@pytest.mark.parametrize("answer", ["refund", " Refund ", "where  is IT"])
def test_known_labels_pass(answer: str) -> None:
    assert check_contract(answer, LABEL, "") == []


@given(st.sampled_from(LABELS), st.integers(0, 30), st.characters(codec="ascii", categories=["L"]))
def test_every_mutated_label_is_flagged(label: str, at: int, letter: str) -> None:
    mutated = label[: at % len(label)] + letter + label[at % len(label) :]
    assert check_contract(mutated, LABEL, mutated)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("none", 0),
        ("cancel_order, refund", 0),
        ("refund,cancel_order", 0),
        ("refund, refund", 1),
        ("refund, gift", 1),
        ("refund, none", 1),
        ("", 1),
    ],
)
def test_tags(answer: str, wrong: int) -> None:
    assert len(check_contract(answer, TAGS, "")) == wrong


@pytest.mark.parametrize(
    "answer",
    [
        "refund",
        '{"intent": "refund"',
        '{"intent": "return"}',
        "{}",
        '{"intent": "refund", "count": 10}',
        '{"intent": "refund", "count": true}',
        '{"intent": "refund", "count": NaN}',
        '{"intent": "refund", "ids": ["A-1", "B-1"]}',
        '{"intent": "refund", "extra": 1}',
        "[" * 100_000,
    ],
)
def test_json_that_breaks_its_schema_is_flagged(answer: str) -> None:
    assert check_contract(answer, SCHEMA, "")


def test_json_that_keeps_its_schema_passes() -> None:
    answer = json.dumps({"intent": "cancel", "count": 2.0, "ids": ["A-1"]})
    assert check_contract(answer, SCHEMA, "") == []


def test_what_is_not_checked_is_refused_not_ignored() -> None:
    with pytest.raises(UnsupportedContract, match=r"minimun.*\$\.a"):
        schema = {"properties": {"a": {"minimun": 3}}}
        check_contract("{}", {"kind": "json", "schema": schema}, "")
    with pytest.raises(UnsupportedContract, match="essay"):
        check_contract("x", {"kind": "essay"}, "")


@pytest.mark.parametrize(
    "answer",
    [
        "Order A-48213, #48213 cost 1250 dollars.",
        "2 bags, 10-15h, 2026-03-01",
        "1. Write to ann@shop.example.\n2. See https://shop.example/o/7.",
    ],
)
def test_facts_of_the_request_pass(answer: str) -> None:
    assert unsupported_facts(answer, REQUEST) == []


@pytest.mark.parametrize(
    "fact",
    [
        *("48214", "B-48213", "2026-01-03", "$125.00", "3 bags", "15-10h", "an@shop.example"),
        *("https://shop.example/o/", "https://shop.example/o/78", "www.shop.example"),
    ],
)
def test_facts_from_nowhere_are_flagged(fact: str) -> None:
    assert check_contract(f"It says {fact} here", TEXT, REQUEST)


@settings(max_examples=300)
@given(st.integers(10_000, 99_999), st.integers(0, 4), st.integers(1, 9))
def test_every_mutated_number_is_flagged(number: int, at: int, shift: int) -> None:
    digits = list(str(number))
    digits[at] = str((int(digits[at]) + shift) % 10)
    request = f"refund order {number} please"
    assert check_contract(f"Refund of order {number}.", TEXT, request) == []
    assert check_contract(f"Refund of order {''.join(digits)}.", TEXT, request)


@given(st.sampled_from(["refund", "cancel"]), st.integers(0, 9), st.characters(codec="ascii"))
def test_every_mutated_enum_is_flagged(intent: str, at: int, letter: str) -> None:
    place = at % len(intent)
    answer = {"intent": intent[:place] + letter + intent[place:], "count": 1}
    assert check_contract(json.dumps(answer), SCHEMA, json.dumps(answer))


IDS = st.from_regex(r"[A-Z]{1,3}-[1-9][0-9]{3,6}", fullmatch=True)


@given(IDS, IDS)
@example("A-10000", "N-10000")
@example("A-10000", "US-10000")
def test_every_mutated_id_is_flagged_where_it_stands(one: str, other: str) -> None:
    request, answer = f"where is parcel {one}?", f"Asks about {other}."
    flagged = [answer[a:b] for a, b in fact_spans(answer, request)]
    # Letters and number may stand apart, but each has to be there.
    assert flagged == ([] if one == other else [other])


def test_too_many_words_and_no_words() -> None:
    assert check_contract("word " * 13, TEXT, "") == ["13 words, 12 are allowed"]
    assert check_contract(" ", TEXT, "") == ["the answer is empty"]


@given(st.text(), st.text())
def test_any_text_is_checked_without_an_error(output: str, request_text: str) -> None:
    for contract in (LABEL, TAGS, SCHEMA, TEXT):
        check_contract(output, contract, request_text)


@pytest.mark.parametrize("blob", ["a" * 100_000, "a." * 50_000, "1" * 100_000, "1.a" * 30_000])
def test_blobs_do_not_cost_quadratic_time(blob: str) -> None:
    with ends():
        unsupported_facts(blob, blob)


KEYWORDS = (
    "type",
    "enum",
    "const",
    "required",
    "minimum",
    "maxLength",
    "pattern",
    "$ref",
    "format",
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "kind",
                    "labels",
                    "schema",
                    "max_words",
                    *sorted(NAMED | ONE | REMARKS | SEVERAL),
                    *KEYWORDS,
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=400)
@given(
    kind=st.sampled_from(["label", "tags", "json", "text", None, 3]),
    rest=st.dictionaries(st.sampled_from(["labels", "schema", "max_words"]), JUNK),
    output=st.sampled_from(["", "x", "{}", "[1]", '{"a": [1, "x"]}', "[" * 50_000, "1" * 5000]),
)
def test_a_contract_that_cannot_be_read_is_refused_and_nothing_else(kind, rest, output) -> None:
    for contract in ({"kind": kind, **rest}, rest, kind):
        with contextlib.suppress(UnsupportedContract):
            assert isinstance(check_contract(output, contract, ""), list)
        if isinstance(contract, dict):
            assert agrees("x", "x", contract) in (True, False)
            fields_right(output, "{}", contract)


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        ({"kind": "label"}, "no list of labels"),
        ({"kind": "tags", "labels": None}, "no list of labels"),
        ({"kind": "json"}, "not an object"),
        ({"kind": "json", "schema": {"pattern": "(["}}, r"'pattern' at \$ cannot be read"),
        ({"kind": "json", "schema": {"pattern": "(" * 1500 + ")" * 1500}}, "cannot be read"),
        ({"kind": "json", "schema": {"properties": {"a": True}}}, r"at \$\.a is not an object"),
        ({"kind": "text", "max_words": "ten"}, "max_words"),
        ({"labels": ["a"]}, "contract kind None"),
    ],
)
def test_the_reason_says_what_to_correct(contract, reason) -> None:
    with pytest.raises(UnsupportedContract, match=reason):
        check_contract("x", contract, "")


@pytest.mark.parametrize("pattern", ["(a|aa)+$", "^(a+)+$", "((a{1,100}){1,100}){1,100}x"])
def test_a_slow_pattern_is_a_broken_contract_within_its_time(pattern: str) -> None:
    slow = {"kind": "json", "schema": {"items": {"type": "string", "pattern": pattern}}}
    answer = json.dumps(["a" * 90 + "!"] * 200)
    with ends():
        reasons = check_contract(answer, slow, "")
    assert len(reasons) == 200
    assert "does not match" in reasons[0]


def test_a_pattern_that_is_fast_enough_is_matched() -> None:
    contract = {"kind": "json", "schema": {"type": "string", "pattern": r"^[A-Z]{2}-\d+$"}}
    assert check_contract('"AB-12"', contract, "") == []
    assert check_contract('"ab-12"', contract, "") == [r"$ does not match ^[A-Z]{2}-\d+$"]
