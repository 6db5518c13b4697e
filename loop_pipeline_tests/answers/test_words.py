"""Words in every script that the loop's users write."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.answers.words import words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It's 3.5kg, a_b!", ["it", "s", "3", "5kg", "a", "b"]),
        ("Straße CAFE\u0301", ["strasse", "café"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("العَرَبِيَّة 12", ["العَرَبِيَّة", "12"]),
        ("第14天。开门", ["第", "14", "天", "开", "门"]),
        ("ニュース app版", ["ニ", "ュ", "ー", "ス", "app", "版"]),
        ("が", ["が"]),
        ("か\u3099", ["が"]),
        ("", []),
    ],
)
def test_a_word_is_what_a_reader_of_its_script_takes_for_one(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


@given(st.text())
def test_composed_and_decomposed_text_have_the_same_words(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


# What this Python knows to be a letter; `regex` follows a newer Unicode.
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"])))
def test_no_letter_and_no_digit_is_lost(text: str) -> None:
    plain = unicodedata.normalize("NFC", text).casefold()
    kept = "".join(c for c in plain if unicodedata.category(c)[0] in "LMN")
    assert "".join(words(text)) == kept
