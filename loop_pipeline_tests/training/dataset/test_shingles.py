from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.training.dataset.near_duplicates import jaccard
from loop_pipeline.training.dataset.shingles import (
    common_runs,
    numbers,
    plain_text,
    shingle,
    without_runs,
)

WORDS = st.lists(st.sampled_from(["where", "is", "my", "card", "naïve", "x1", "頼む"]), max_size=12)


def _said(text: object, role: str = "user") -> list[dict[str, object]]:
    return [{"role": "system", "content": "Classify."}, {"role": role, "content": text}]


def test_spelling_does_not_count_and_meaning_does() -> None:
    assert plain_text(_said("Where is  MY card?!")) == plain_text(_said("where is my card"))
    assert plain_text(_said("3 + 4")) != plain_text(_said("3 * 4"))
    assert plain_text(_said(None)) == ""


def test_parts_that_are_no_text_tell_requests_apart() -> None:
    question = {"type": "text", "text": "What is this?"}
    images = [{"type": "image_url", "image_url": {"url": f"data:{i}"}} for i in "ab"]
    first, second = (plain_text(_said([question, image])) for image in images)
    assert first.startswith("what is this part")
    assert first != second
    assert numbers([first])[0] != numbers([second])[0]


@given(WORDS, WORDS)
def test_similarity_is_that_of_the_sets_of_five_characters(a: list[str], b: list[str]) -> None:
    texts = [" ".join(a), " ".join(b)]
    sets = [{f" {t} "[i : i + 5] for i in range(len(t) - 2)} for t in texts]
    expected = len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)
    found = shingle(texts)
    got = jaccard(found, np.array([0]), found, np.array([1]))
    assert np.isclose(got[0], expected)


def test_a_long_text_is_known_by_a_sketch_of_it() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i:05d}" for i in rng.integers(0, 99_999, 4000)]
    other = words[:3000] + [f"v{i:05d}" for i in range(1000)]
    sets = shingle([" ".join(words), " ".join(other), "short"])
    assert sets.getnnz(axis=1).tolist() == [512, 512, 3]
    [likeness] = jaccard(sets, np.array([0]), sets, np.array([1]))
    assert abs(likeness - 3000 / 5000) < 0.07


def test_a_template_is_taken_out_of_the_text_and_a_popular_question_is_not() -> None:
    template = "you are a careful agent of the bank and you answer with one label only request"
    texts = [f"{template} number{i} is about cards" for i in range(120)]
    question = "i have been waiting for my new card for more than two weeks where is it"
    asked = [f"{hello} {question}" for hello in ("hi", "hello", "dear team", "")]
    common = common_runs(texts + asked)
    assert without_runs(texts[:1], common) == ["number0 is about cards"]
    assert without_runs(asked, common) == asked
