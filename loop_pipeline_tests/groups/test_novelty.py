"""The early warning: calibrated without a change, awake at one, silent where it cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.groups.novelty import MIN_WINDOW, novelty


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def requests(rng, n, topics=8, only=None):
    """Unit vectors round a few topics."""
    centres = np.random.default_rng(99).normal(size=(topics, 24))
    which = rng.integers(topics, size=n) if only is None else np.full(n, only)
    return unit(centres[which] + 0.8 * rng.normal(size=(n, 24)))


def test_false_alarms_are_as_many_as_said():
    rng = np.random.default_rng(0)
    repeats = 200
    p = [
        novelty(requests(rng, 60), requests(rng, 120), seed=i, permutations=99).p_value
        for i in range(repeats)
    ]
    for level in (0.05, 0.2, 0.5):
        three_sd = 3 * np.sqrt(level * (1 - level) / repeats)
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=three_sd)


def test_a_new_topic_in_a_fifth_of_the_window_is_seen():
    rng = np.random.default_rng(1)
    seen = []
    for i in range(30):
        new = np.where(rng.random(200)[:, None] < 0.2, requests(rng, 200, 9, 8), 0)
        window = np.where(new.any(axis=1)[:, None], new, requests(rng, 200))
        seen.append(novelty(window.astype(np.float32), requests(rng, 600), seed=i).p_value <= 0.05)
    assert np.mean(seen) >= 0.95


def test_the_estimate_is_unbiased():
    rng = np.random.default_rng(2)
    found = [
        novelty(requests(rng, 60), requests(rng, 90), permutations=1).statistic for _ in range(100)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_the_same_rows_are_nothing_new():
    rows = requests(np.random.default_rng(3), 100)
    assert novelty(rows, rows).p_value > 0.5
    same = np.ones((80, 8), dtype=np.float32)
    assert novelty(same, same).p_value == 1
    assert novelty(same * 0, same * 0).p_value == 1


def test_it_says_the_same_twice():
    rng = np.random.default_rng(4)
    window, reference = requests(rng, 100), requests(rng, 200)
    assert novelty(window, reference, seed=7) == novelty(window, reference, seed=7)


@pytest.mark.parametrize(("m", "n"), [(0, 500), (MIN_WINDOW - 1, 500), (500, 3)])
def test_too_few_rows_get_a_reason_and_no_number(m, n):
    rng = np.random.default_rng(5)
    result = novelty(requests(rng, m), requests(rng, n))
    assert result.p_value is None
    assert result.statistic is None
    assert f"{m} requests in the window and {n}" in result.sentence
