import random

import pytest
from num2words import num2words

from loop_pipeline.answers.readings.number_words import worded

VALUES = [*range(1000), *random.Random(0).sample(range(1000, 1_000_000), 500)]


@pytest.mark.parametrize("language", ["en", "de", "fr", "es"])
def test_words_are_read_as_the_number_they_were_made_of(language: str) -> None:
    made = {value: num2words(value, lang=language) for value in VALUES}
    read = {value: [w.value for w in worded(f"x {words} y")] for value, words in made.items()}
    wrong = {made[value]: found for value, found in read.items() if found != [value]}
    assert wrong == {}


@pytest.mark.parametrize("language", ["en", "fr", "es"])
def test_ordinals_up_to_ten_are_numbers(language: str) -> None:
    for value in range(1, 11):
        words = num2words(value, lang=language, to="ordinal")
        assert [w.value for w in worded(words)] == [value]


def test_german_ordinals_are_numbers_in_every_ending() -> None:
    for value in range(1, 100):
        word = num2words(value, lang="de", to="ordinal")
        for end in ("", "n", "r", "s"):
            assert [w.value for w in worded(word + end)] == [value]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("one two three", [1, 2, 3]),
        ("two hundred and five bells and three lamps", [205, 3]),
        ("twenty, thirty", [20, 30]),
    ],
)
def test_numbers_that_only_follow_each_other_are_several(text: str, values: list[int]) -> None:
    assert [w.value for w in worded(text)] == values
