import random

import pytest
from num2words import num2words

from loop_pipeline.answers.readings.chinese_numerals import (
    chinese_numbers,
    chinese_sums,
    chinese_value,
)


def test_numerals_are_read_as_the_number_they_were_made_of() -> None:
    for value in [*range(1, 1000), *random.Random(0).sample(range(1000, 10**9), 500)]:
        assert chinese_value(num2words(value, lang="ja")) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [("二〇二六年", [2026]), ("周四", []), ("十分感谢", []), ("百分之五", [5]), ("3万", [])],
)
def test_what_looks_like_a_numeral_is_read_only_where_it_is_one(
    text: str, values: list[int]
) -> None:
    assert [w.value for w in chinese_numbers(text)] == values


def test_parts_add_up() -> None:
    assert [value for *_, value in chinese_sums("予算は3億5000万円")] == [350_000_000]
