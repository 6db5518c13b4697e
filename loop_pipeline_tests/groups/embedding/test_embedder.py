"""One request and a million are embedded alike, and a stored embedder is the same embedder."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.traces.messages import request_text

TEXTS = [
    f"{verb} my {thing} {when}"
    for verb in ("block", "renew", "cancel", "show", "pay")
    for thing in ("card", "flight to Paris", "insurance", "electricity bill")
    for when in ("today", "please", "before monday", "as soon as possible")
]
EMBEDDER = Embedder.fit(TEXTS, seed=1)
ODD = ["", "?!", "a", "naïve Straße 東京", "\ud800", "card " * 9_000, "🙂 my card"]


def test_one_by_one_gives_the_numbers_of_the_batch():
    texts = TEXTS + ODD
    batch = EMBEDDER.transform(texts)
    single = np.vstack([EMBEDDER.transform([t]) for t in texts])
    assert np.array_equal(batch, single)
    assert batch.dtype == np.float32


def test_the_length_says_how_much_of_a_text_is_known():
    known = np.linalg.norm(EMBEDDER.project(TEXTS), axis=1)
    assert np.all(np.abs(known - 1) < 0.01)  # more dimensions than texts
    assert np.linalg.norm(EMBEDDER.project(ODD), axis=1).max() < 1.01
    words = ["block my card today", "block my giraffe today", "praise his giraffe forever"]
    falling = np.linalg.norm(EMBEDDER.project(words), axis=1)
    assert np.all(np.diff(falling) < -0.02)
    assert not EMBEDDER.project(["?"]).any()


def test_alike_requests_are_near_and_others_far():
    card, same, other = EMBEDDER.transform(
        ["Block my CARD today!", "please block my card", "cancel my flight to Paris"]
    )
    assert card @ same > card @ other + 0.3


def test_save_and_load_keep_version_and_vectors(tmp_path):
    EMBEDDER.save(tmp_path / "e.npz")
    again = Embedder.load(tmp_path / "e.npz")
    assert again.version == EMBEDDER.version
    assert np.array_equal(again.transform(TEXTS), EMBEDDER.transform(TEXTS))
    assert [p.name for p in tmp_path.iterdir()] == ["e.npz"]


def test_the_version_follows_the_content():
    assert Embedder.fit(TEXTS, seed=1).version == EMBEDDER.version
    assert Embedder.fit(TEXTS[1:], seed=1).version != EMBEDDER.version


def test_a_foreign_file_is_refused_and_nothing_is_fitted_on_nothing(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npz is not an embedder: it lacks axes"):
        Embedder.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="none of the 2 texts has a word"):
        Embedder.fit(["", "?"], seed=0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_texts_is_enough(count):
    fitted = Embedder.fit(TEXTS[:count], seed=0)
    vectors = fitted.transform(TEXTS[:count])
    assert np.isfinite(vectors).all()
    assert fitted.map_xy(vectors).shape == (count, 2)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "u"),
        ([{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}], "1"),
        ([{"role": "user", "content": [{"type": "text", "text": "t"}]}], "t"),
        ([{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "t"}]}], ""),
        ([{"role": "user", "content": None}], ""),
        ([], ""),
    ],
)
def test_request_text_is_the_last_user_message_or_nothing(messages, text):
    assert request_text(messages) == text
