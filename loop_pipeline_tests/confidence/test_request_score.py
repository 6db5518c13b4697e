"""The score that is read from a request before any model is called."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loop_pipeline.confidence.request_score import UNLIKE, RequestScore, fit_request_score
from loop_pipeline.groups.embedding.embedder import Embedder, Floats, unit

EASY = ["refund", "ticket", "seat", "hotel", "card"]
HARD = ["integral", "prove", "theorem", "lattice", "compile"]


@pytest.fixture(scope="module")
def embedded() -> tuple[list[str], Floats, NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    hard = rng.random(600) < 0.4
    texts = [" ".join(rng.choice(HARD if h else EASY, 8)) for h in hard]
    return texts, Embedder.fit(texts[:120], seed=0).transform(texts), hard


@pytest.fixture
def world(
    embedded: tuple[list[str], Floats, NDArray[np.bool_]],
) -> tuple[list[str], Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Requests of two kinds: the cheap model is mostly good on one of them."""
    texts, vectors, hard = embedded
    good = np.random.default_rng(1).random(600) < np.where(hard, 0.3, 0.95)
    return list(texts), vectors, good, hard


def auc(score, positive):
    order = np.argsort(np.argsort(score)) + 1
    p = positive.sum()
    return (order[positive].sum() - p * (p + 1) / 2) / (p * (len(score) - p))


def test_it_ranks_requests_it_has_not_seen(world):
    texts, vectors, good, hard = world
    score = fit_request_score(texts[:400], vectors[:400], good[:400])
    assert score.method == "kinds"
    assert auc(score.values(texts[400:], vectors[400:]), ~hard[400:]) > 0.97


def test_it_finds_a_shape_that_the_vectors_do_not_show(world):
    texts, vectors, _, _ = world
    rng = np.random.default_rng(3)
    long = rng.random(len(texts)) < 0.5
    texts = [t * 6 if x else t for t, x in zip(texts, long, strict=True)]
    good = rng.random(len(texts)) < np.where(long, 0.4, 0.9)
    score = fit_request_score(texts[:400], vectors[:400], good[:400])
    assert auc(score.values(texts[400:], vectors[400:]), ~long[400:]) > 0.95


def test_one_request_and_many_give_the_same_numbers(world):
    texts, vectors, good, _ = world
    texts[:4] = ["", "\u00e9\ud800 17 \\frac{a}{b}?", "x" * 50_000, "A. 1\nB. 2\nC. not"]
    score = fit_request_score(texts, vectors, good)
    many = score.values(texts, vectors)
    assert np.isfinite(many).all()
    assert [score.value(t, v) for t, v in zip(texts, vectors, strict=True)] == many.tolist()
    assert [score.value(t, v) for t, v in zip(texts, vectors[:, :].copy(), strict=True)] == list(
        many
    )


def test_it_survives_json_and_is_fitted_twice_alike(world):
    texts, vectors, good, _ = world
    score = fit_request_score(texts, vectors, good)
    assert score.model_dump_json() == fit_request_score(texts, vectors, good).model_dump_json()
    back = RequestScore.model_validate_json(score.model_dump_json())
    assert (back.values(texts, vectors) == score.values(texts, vectors)).all()


def test_it_takes_a_difference_of_qualities_as_well(world):
    texts, vectors, good, _ = world
    score = fit_request_score(texts, vectors, np.where(good, 0.0, -1.0))
    assert score.values(texts, vectors) + 1 == pytest.approx(
        fit_request_score(texts, vectors, good).values(texts, vectors), abs=1e-6
    )


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_rows_rank_by_length(world, n):
    texts, vectors, good, _ = world
    good[:2] = True, False
    score = fit_request_score(texts[:n], vectors[:n], good[:n])
    assert score.method == ("constant" if n == 1 else "length")
    assert f"{n} requests" in score.reason
    if n != 1:
        assert score.value("short", vectors[0]) > score.value("a longer request", vectors[0])


@pytest.mark.parametrize("outcome", [True, False])
def test_one_outcome_ranks_nothing(world, outcome):
    texts, vectors, _, _ = world
    score = fit_request_score(texts, vectors, np.full(len(texts), outcome))
    assert score.method == "constant"
    assert set(score.values(texts, vectors)) == {0.0}


def test_lengths_that_differ_are_refused(world):
    texts, vectors, good, _ = world
    with pytest.raises(ValueError, match="599 texts, 600 vectors"):
        fit_request_score(texts[1:], vectors, good)


def test_a_request_far_from_all_others_comes_after_them_and_says_so():
    rng = np.random.default_rng(5)
    texts = ["word " * int(k) for k in rng.integers(3, 9, 200)]
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    score = fit_request_score(texts, vectors, rng.random(200) < 0.7)
    known = score.values(texts, vectors)
    odd = score.scored("\\frac{9}{7} " * 1_000, vectors[0])
    assert odd.value < known.min()
    assert odd.note == UNLIKE
    assert score.unlike(texts, vectors) <= 0.01
    # A score of before knew no reach: it gives the middle, and its document keeps its bytes.
    before = score.model_copy(update={"reach": 0.0})
    middle = before.value("\\frac{9}{7} " * 1_000, vectors[0])
    assert middle == pytest.approx(score.intercept, abs=1e-6)
    assert "reach" not in before.model_dump_json()


def test_requests_of_another_domain_are_ranked_by_length_after_those_it_knows(world):
    texts, vectors, good, _ = world
    score = fit_request_score(texts, vectors, good)
    rng, words = np.random.default_rng(6), ["\\frac{1}{2}", "= 17;", "{x}^2", "<b>/</b>", "9.81"]
    other = [" ".join(rng.choice(words, int(n))) for n in rng.integers(40, 400, 200)]
    # Another domain has vectors of its own: the embedder knows none of its words.
    far = unit(rng.normal(size=(200, vectors.shape[1])).astype(np.float32))
    values = score.values(other, far)
    assert len(set(values)) > 100  # one constant before
    lengths = np.array([len(text) for text in other])
    longer = lengths[:, None] > lengths[None, :]
    assert (values[:, None] < values[None, :])[longer].all()
    assert values.max() < score.values(texts, vectors).min()
    assert score.unlike(other, far) == 1
    assert score.unlike(texts, vectors) <= 0.01
    assert score.unlike([], far[:0]) == 0
