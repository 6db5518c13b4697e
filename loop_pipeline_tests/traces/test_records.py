from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.hashing import digest
from loop_pipeline.traces.messages import dedup_key, template_hash
from loop_pipeline.traces.records import SPLITS, split_of


def _messages(user: str, system: str = "Classify.") -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def test_splits_have_their_shares_and_never_move() -> None:
    seen = [split_of(digest(str(i))) for i in range(20_000)]
    for name, share in SPLITS:
        assert abs(seen.count(name) / len(seen) - share) < 0.01
    # Frozen: a request that was held out yesterday must be held out tomorrow.
    frozen = {"a": "train", "e": "calibration", "i": "validation", "o": "calibration"}
    assert {key: split_of(key) for key in frozen} == frozen


def test_requests_that_differ_in_spelling_only_are_one() -> None:
    assert dedup_key(_messages("Where is  my order?")) == dedup_key(_messages("where is my order"))
    assert dedup_key(_messages("where is my order")) != dedup_key(_messages("where is my orders"))
    assert dedup_key(_messages("a", "Tag.")) != dedup_key(_messages("a", "Classify."))


def test_template_is_the_system_prompt() -> None:
    assert template_hash(_messages("a")) == template_hash(_messages("b"))
    assert template_hash(_messages("a")) != template_hash(_messages("a", "Summarise."))


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_digest_is_unambiguous(a: list[str], b: list[str]) -> None:
    assert (digest(*a) == digest(*b)) == (a == b)
