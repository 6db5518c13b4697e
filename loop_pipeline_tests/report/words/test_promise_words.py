"""A promise says of what it is and of what not; beside the certified stands what can be had."""

from __future__ import annotations

from loop_pipeline.report.numbers import Coverage
from loop_pipeline.report.words.promise_words import most_words, promise_sentence

COVERAGE = Coverage(target=0.95, delta=0.05, certified=0.7)


def test_text_has_no_promise_by_its_quality_and_it_is_said() -> None:
    said = promise_sentence(COVERAGE, text=True)
    assert said.startswith("promise: 95% agreement in every group of labels, tags or JSON")
    assert "their quality is not promised" in said
    assert "texts" not in promise_sentence(COVERAGE, text=False)


def test_a_relative_promise_is_told_in_its_own_words() -> None:
    own = COVERAGE.model_copy(update={"promised": "as often as big agrees with itself"})
    assert "promise: as often as big agrees with itself in every group" in (
        promise_sentence(own, text=False)
    )


def test_the_most_that_any_method_could_certify_is_named_or_not_known() -> None:
    assert "more than 89.2%" in most_words(0.8916)
    assert most_words(None).endswith("is not known")
