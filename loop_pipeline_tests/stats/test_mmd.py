"""The early warning: calibrated without a change, awake at one, silent where it cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.stats.mmd import MIN_WINDOW, novelty


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def requests(rng, n, topics=8, only=None):
    """Unit vectors round a few topics."""
    centres = np.random.default_rng(99).normal(size=(topics, 24))
    which = rng.integers(topics, size=n) if only is None else np.full(n, only)
    return unit(centres[which] + 0.8 * rng.normal(size=(n, 24)))


def p_value(*args, **kwargs) -> float:
    result = novelty(*args, **kwargs)
    assert result.p_value is not None
    return result.p_value


def test_false_alarms_are_as_many_as_said():
    rng = np.random.default_rng(0)
    repeats = 200
    p = [
        p_value(requests(rng, 60), requests(rng, 120), seed=i, permutations=99)
        for i in range(repeats)
    ]
    for level in (0.05, 0.2, 0.5):
        three_sd = 3 * np.sqrt(level * (1 - level) / repeats)
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=three_sd)


def false_alarms(burst: int, *, told: bool, repeats: int = 100) -> float:
    """How often unchanged traffic rings, in which a topic comes so many times in a row."""
    rng, centres = np.random.default_rng(0), np.random.default_rng(99).normal(size=(40, 24))

    def traffic(n: int):
        topic = np.repeat(rng.integers(40, size=-(-n // burst)), burst)[:n]
        return unit(centres[topic] + 0.2 * rng.normal(size=(n, 24)))

    def units(n: int):
        return np.arange(n) // burst if told else None

    p = [
        p_value(traffic(200), traffic(400), units(200), units(400), seed=i, permutations=99)
        for i in range(repeats)
    ]
    return float(np.mean(np.array(p) <= 0.05))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("burst", [1, 3, 5])
def test_unchanged_traffic_of_conversations_seldom_rings(burst: int, told: bool) -> None:
    # By single requests it rings in 97% of windows with bursts of three, in all with bursts of ten.
    assert false_alarms(burst, told=told) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_long_conversations_seldom_ring_if_they_are_told() -> None:
    assert false_alarms(20, told=True) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_one_conversation_cannot_be_compared_and_is_named() -> None:
    rng = np.random.default_rng(8)
    one = np.zeros(200, np.int64)
    found = novelty(requests(rng, 200), requests(rng, 400), one)
    assert found.p_value is None
    assert "from 5 conversations or bursts (there are 1 and 40)" in found.sentence


def test_a_new_topic_in_a_fifth_of_the_window_is_seen():
    rng = np.random.default_rng(1)
    seen = []
    for i in range(30):
        window = requests(rng, 200)
        window[:40] = requests(rng, 40, 9, 8)
        seen.append(p_value(window, requests(rng, 600), seed=i) <= 0.05)
    assert np.mean(seen) >= 0.95


def test_the_estimate_is_unbiased():
    rng = np.random.default_rng(2)
    draws = [novelty(requests(rng, 60), requests(rng, 90), permutations=1) for _ in range(100)]
    found = np.array([d.statistic for d in draws], dtype=float)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_the_same_rows_are_nothing_new():
    rows = requests(np.random.default_rng(3), 100)
    assert p_value(rows, rows) > 0.5
    same = np.ones((80, 8), dtype=np.float32)
    assert p_value(same, same) == 1
    assert p_value(same * 0, same * 0) == 1


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
